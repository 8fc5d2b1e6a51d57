// Profile and layer × token map on one token axis, drawn. Two canvases: what the numbers say, and over it what is
// pinned and pointed at, so that pointing repaints little. Where the tokens do not fit, the axis scrolls below an overview.

const WIDEST_COLUMN = 72
const NARROWEST_COLUMN = 3
const SCROLLED_COLUMN = 6
const GAP = 8
const OVERVIEW = 14
const SCROLLBAR = 12
const LABEL = "11px"

function plots(view) {
  const made = {
    box: view.find(".plots"),
    base: view.find(".base"),
    over: view.find(".over"),
    scroller: view.find(".scroller"),
    spacer: view.find(".spacer"),
    // Asking the browser for it would make it lay out the page in the middle of drawing.
    left: 0,
  }
  const { scroller } = made
  view.listen(scroller, "pointermove", (event) => pointAt(view, event))
  view.listen(scroller, "pointerleave", () => hover(view, -1))
  view.listen(scroller, "pointerdown", (event) => beginDrag(view, event))
  view.listen(scroller, "click", (event) => clickAt(view, event))
  view.listen(scroller, "scroll", () => scrolled(view), { passive: true })
  view.listen(scroller, "keydown", (event) => plotKey(view, event))
  view.listen(scroller, "blur", () => hover(view, -1))
  return made
}

function scrolled(view) {
  view.plots.left = view.plots.scroller.scrollLeft
  hover(view, -1)
  view.later(drawPlots)
}

function scrollPlots(view, x) {
  view.plots.scroller.scrollLeft = x
  view.plots.left = view.plots.scroller.scrollLeft
  view.later(drawPlots)
}

// Where everything lies, from the width and the data.
function layPlots(view) {
  const { plots, data, style, gutter } = view
  const has = (part) => data.parts.includes(part) && data.glyphs.length > 0
  const n = data.glyphs.length
  const width = view.width
  const room = width - gutter - 2
  const pen = view.measuring
  pen.font = `${LABEL} ${style.code}`
  const widest = n <= 80 ? Math.max(0, ...data.glyphs.map((glyph) => pen.measureText(glyph).width)) + 10 : Infinity
  const isScrolled = room / n < NARROWEST_COLUMN
  const column = isScrolled ? SCROLLED_COLUMN : Math.min(room / n, Math.max(WIDEST_COLUMN, Math.min(widest, 160)))
  const withGlyphs = column >= widest
  const rows = data.layers.length
  const axis = withGlyphs ? 30 : 19
  let y = 0
  const band = (height) => ({ top: (y += height) - height, height })
  const place = { n, width, room, column, withGlyphs, isScrolled, rows }
  place.overview = isScrolled ? band(OVERVIEW) : null
  if (isScrolled) y += 6
  place.profile = has("profile") ? band(data.heights.profile) : null
  if (place.profile) y += GAP
  place.map = has("map") ? band(rows * data.row_height) : null
  place.axis = band(axis)
  place.height = y + (isScrolled ? SCROLLBAR : 0)
  plots.place = place
  const isShown = Boolean(place.profile || place.map)
  plots.box.hidden = !isShown
  view.find(".caption").hidden = !place.profile
  if (!isShown) return
  plots.box.style.height = `${place.height}px`
  plots.scroller.style.left = `${gutter}px`
  plots.scroller.style.overflowX = isScrolled ? "scroll" : "hidden"
  plots.spacer.style.width = `${isScrolled ? n * column : 1}px`
  plots.scroller.tabIndex = 0
  plots.scroller.setAttribute("role", "application")
  plots.scroller.setAttribute(
    "aria-label",
    `${data.metric.label} ${place.map ? "by layer and token" : "by token"}; arrow keys move, Enter pins`,
  )
  const ratio = window.devicePixelRatio || 1
  for (const canvas of [plots.base, plots.over]) {
    canvas.width = Math.round(width * ratio)
    canvas.height = Math.round(place.height * ratio)
    canvas.style.width = `${width}px`
    canvas.style.height = `${place.height}px`
    canvas.getContext("2d").setTransform(ratio, 0, 0, ratio, 0, 0)
  }
  plots.left = plots.scroller.scrollLeft
  drawPlots(view)
}

// Widest label left of the axis.
function gutterOf(view) {
  const { data, style } = view
  const pen = view.measuring
  pen.font = `${LABEL} ${style.font}`
  const labels = [String(Math.max(0, data.glyphs.length - 1))]
  if (data.parts.includes("profile"))
    for (const { least, most } of data.rows) labels.push(number(least ?? NaN), number(most ?? NaN))
  if (data.parts.includes("map")) labels.push(...rowLabels(view))
  return Math.ceil(Math.max(24, ...labels.map((label) => pen.measureText(label).width))) + 14 + (hasTitle(view) ? 15 : 0)
}

const hasTitle = (view) => view.data.parts.includes("map") && view.data.numbered
const rowLabels = (view) => (view.data.numbered ? view.data.layers.map(String) : view.data.names)

const xOf = (view, token) => Math.round(view.gutter + token * view.plots.place.column - view.plots.left)
const yOf = (view, row) => {
  const { map, rows } = view.plots.place
  return map.top + (rows - 1 - row) * (map.height / rows)
}

function shownColumns(view) {
  const { n, column, room } = view.plots.place
  return [Math.max(0, Math.floor(view.plots.left / column)), Math.min(n - 1, Math.floor((view.plots.left + room) / column))]
}

function drawPlots(view) {
  const { plots } = view
  if (!plots.place || plots.box.hidden) return
  const pen = plots.base.getContext("2d")
  const { width, height, room, profile, map } = plots.place
  pen.clearRect(0, 0, width, height)
  if (profile) drawValueAxis(view, pen)
  pen.save()
  pen.beginPath()
  pen.rect(view.gutter, 0, room + 2, height)
  pen.clip()
  if (plots.place.overview) drawOverview(view, pen)
  if (profile) drawProfile(view, pen)
  if (map) drawMap(view, pen)
  pen.restore()
  drawOver(view)
}

function drawProfile(view, pen) {
  const { profile, column, room } = view.plots.place
  const [first, last] = shownColumns(view)
  const row = view.data.rows[view.row]
  const reference = view.data.metric.reference
  const yAt = profileScale(view)
  const floor = yAt(reference ?? 0)
  const gap = column >= 5 ? Math.min(3, Math.round(column * 0.14)) : 0
  for (let token = first; token <= last; token++) {
    const value = valueAt(view, view.row, token)
    if (!Number.isFinite(value)) continue
    const x = xOf(view, token) + (gap >> 1)
    const width = Math.max(1, xOf(view, token + 1) - xOf(view, token) - gap)
    const y = yAt(value)
    const top = Math.min(y, floor)
    const size = Math.max(1, Math.abs(y - floor))
    const isHidden = view.hidden[token]
    pen.fillStyle = isHidden ? view.hatch : view.data.metric.shades[shadeOf(view, value)]
    pen.fillRect(x, top, width, size)
    if (column >= 5 && !isHidden) {
      // The colours near the reference are the page's own.
      pen.strokeStyle = view.style.edge
      pen.strokeRect(x + 0.5, top + 0.5, Math.max(0, width - 1), Math.max(0, size - 1))
    }
  }
  const end = Math.min(view.gutter + room, xOf(view, view.data.glyphs.length))
  pen.fillStyle = view.style.rule
  if (reference !== null) pen.fillRect(view.gutter, Math.round(floor), end - view.gutter, 1)
  if (row.median !== null) {
    const y = Math.round(yAt(row.median)) + 0.5
    pen.setLineDash([2, 3])
    pen.strokeStyle = view.style.rule
    pen.beginPath()
    pen.moveTo(view.gutter, y)
    pen.lineTo(end, y)
    pen.stroke()
    pen.setLineDash([])
  }
}

// A bar that is left out may be a thousand times taller than the others: it ends at the edge.
function profileScale(view) {
  const { top, height } = view.plots.place.profile
  const { low, high } = view.data.rows[view.row]
  const span = high - low || 1
  return (value) => top + (1 - Math.max(0, Math.min(1, (value - low) / span))) * height
}

function drawMap(view, pen) {
  const { map, rows, column } = view.plots.place
  const [first, last] = shownColumns(view)
  const size = map.height / rows
  const { shades } = view.data.metric
  const down = size >= 6 ? 1 : 0
  const right = column >= 6 ? 1 : 0
  for (let row = 0; row < rows; row++) {
    const y = yOf(view, row)
    for (let token = first; token <= last; token++) {
      if (view.hidden[token]) continue
      const shade = shadeOf(view, valueAt(view, row, token))
      const x = xOf(view, token)
      const width = xOf(view, token + 1) - x - right
      if (shade >= 0) {
        pen.fillStyle = shades[shade]
        pen.fillRect(x, y, width, size - down)
      } else if (column >= 6 && size >= 6) {
        // No number here: a dot, unlike the colour of the reference.
        pen.fillStyle = view.style.rule
        pen.fillRect(x + (width >> 1) - 1, y + (size >> 1) - 1, 2, 2)
      }
    }
  }
  pen.fillStyle = view.hatch
  for (const token of view.data.left_out)
    if (token >= first && token <= last)
      pen.fillRect(xOf(view, token), map.top, Math.max(1, xOf(view, token + 1) - xOf(view, token) - right), map.height)
}

// Ticks give way to the labels of what is pinned and pointed at.
function drawTokenAxis(view, pen, taken) {
  const { axis, column, withGlyphs, n, room } = view.plots.place
  const [first, last] = shownColumns(view)
  const every = withGlyphs ? 1 : tickStep(column)
  pen.textAlign = "center"
  pen.textBaseline = "middle"
  for (let token = Math.ceil(first / every) * every; token <= last; token += every) {
    const x = view.gutter + (token + 0.5) * column - view.plots.left
    const half = (String(token).length * 6.5) / 2
    if (x < view.gutter || x + half > view.gutter + room + 2) continue
    pen.fillStyle = view.style.quiet
    pen.font = `${withGlyphs ? "10px" : LABEL} ${view.style.font}`
    if (!withGlyphs) pen.fillRect(Math.round(x), axis.top + 1, 1, 3)
    if (withGlyphs || !taken.some(([from, to]) => x + half + 3 > from && x - half - 3 < to))
      pen.fillText(String(token), x, axis.top + (withGlyphs ? 23 : 12))
    if (!withGlyphs || token === view.pin.token || token === view.pointed.token) continue
    pen.fillStyle = view.style.ink
    pen.font = `${LABEL} ${view.style.code}`
    pen.fillText(view.data.glyphs[token], x, axis.top + 9)
  }
  const end = view.gutter + n * column
  if (withGlyphs || end + 44 > view.plots.place.width || taken.some(([, to]) => to > end)) return
  pen.textAlign = "left"
  pen.fillStyle = view.style.quiet
  pen.fillText("token", end + 8, axis.top + 12)
}

function tickStep(column) {
  for (let size = 1; ; size *= 10)
    for (const step of [1, 2, 5]) if (step * size * column >= 40) return step * size
}

function labelled(view, pen) {
  pen.textBaseline = "middle"
  pen.textAlign = "right"
  pen.font = `${LABEL} ${view.style.font}`
  pen.fillStyle = view.style.quiet
  return view.gutter - 8
}

function drawValueAxis(view, pen) {
  const { profile } = view.plots.place
  const x = labelled(view, pen)
  const yAt = profileScale(view)
  const { least, most, low, high } = view.data.rows[view.row]
  const taken = []
  for (const value of [view.data.metric.reference, most, least]) {
    if (value === null || value < low || value > high) continue
    const y = Math.max(profile.top + 6, Math.min(profile.top + profile.height - 5, yAt(value)))
    if (taken.some((other) => Math.abs(other - y) < 13)) continue
    taken.push(y)
    pen.fillText(number(value), x, y)
  }
}

function drawLayerAxis(view, pen) {
  const { map, rows } = view.plots.place
  const x = labelled(view, pen)
  const size = map.height / rows
  const labels = rowLabels(view)
  const every = Math.ceil(13 / size)
  const marked = [view.row, view.pointed.row].filter((row) => row !== null)
  for (let row = 0; row < rows; row += every)
    if (marked.every((other) => Math.abs(other - row) * size >= 14)) pen.fillText(labels[row], x, yOf(view, row) + size / 2)
  if (!hasTitle(view) || map.height < 36) return
  pen.save()
  pen.translate(7, map.top + map.height / 2)
  pen.rotate(-Math.PI / 2)
  pen.textAlign = "center"
  pen.fillText("layer", 0, 0)
  pen.restore()
}

// Whole prompt in one line: of the tokens under a pixel, the one farthest from the reference.
function drawOverview(view, pen) {
  const { overview, room, n } = view.plots.place
  const reference = view.data.metric.reference ?? 0
  const wide = Math.max(1, Math.round(room))
  for (let x = 0; x < wide; x++) {
    let farthest = NaN
    const end = Math.max(Math.floor(((x + 1) * n) / wide), Math.floor((x * n) / wide) + 1)
    for (let token = Math.floor((x * n) / wide); token < end && token < n; token++) {
      const value = valueAt(view, view.row, token)
      if (view.hidden[token] || !Number.isFinite(value)) continue
      if (!(Math.abs(value - reference) <= Math.abs(farthest - reference))) farthest = value
    }
    const shade = shadeOf(view, farthest)
    if (shade < 0) continue
    pen.fillStyle = view.data.metric.shades[shade]
    pen.fillRect(view.gutter + x, overview.top + 2, 1, overview.height - 4)
  }
}

// What is pinned and pointed at.
function drawOver(view) {
  const { plots, style, pin, pointed } = view
  if (!plots.place || plots.box.hidden) return
  const pen = plots.over.getContext("2d")
  const { width, height, overview, room, n, column } = plots.place
  pen.clearRect(0, 0, width, height)
  if (overview) {
    const scale = room / n
    const at = view.gutter + (view.plots.left / column) * scale
    pen.strokeStyle = style.ink
    pen.lineWidth = 1.5
    pen.strokeRect(at + 0.75, overview.top + 0.75, Math.max(4, (room / column) * scale - 1.5), overview.height - 1.5)
    pen.fillStyle = style.ink
    if (pin.token < n) pen.fillRect(view.gutter + pin.token * scale - 1, overview.top, 2, overview.height)
  }
  const row = view.row
  const taken = [pin.token, pointed.token].map((token) => badgeSpan(view, pen, token)).filter(Boolean)
  drawTokenAxis(view, pen, taken)
  if (plots.place.map) drawLayerAxis(view, pen)
  if (plots.place.map) markRow(view, pen, row, true)
  if (pointed.token >= 0 && pointed.token !== pin.token) markColumn(view, pen, pointed.token, false)
  if (plots.place.map && pointed.row !== null && pointed.row !== row) markRow(view, pen, pointed.row, false)
  if (pin.token >= 0 && pin.token < n) {
    markColumn(view, pen, pin.token, true)
    if (plots.place.map) outlineCell(view, pen, row, pin.token)
  }
  if (plots.place.map && pointed.token >= 0 && pointed.row !== null) outlineCell(view, pen, pointed.row, pointed.token, 1)
}

function markColumn(view, pen, token, isPin) {
  const { profile, map, axis, room, column } = view.plots.place
  const x = xOf(view, token)
  const size = Math.max(2, xOf(view, token + 1) - x - (column >= 6 ? 1 : 0))
  if (x + size < view.gutter || x > view.gutter + room) return
  pen.save()
  pen.beginPath()
  pen.rect(view.gutter - 2, 0, room + 4, axis.top + axis.height)
  pen.clip()
  const bands = [profile, map].filter(Boolean)
  for (const { top, height } of bands) {
    pen.fillStyle = isPin ? view.style.pinBand : view.style.pointBand
    if (profile && top === profile.top) pen.fillRect(x, top, size, height)
    pen.fillStyle = isPin ? view.style.ink : view.style.quiet
    pen.fillRect(x - 1, top, 1, height)
    pen.fillRect(x + size, top, 1, height)
  }
  pen.restore()
  badge(view, pen, badgeText(view, token), x + size / 2, axis.top + 9.5, isPin, view.style.code, view.gutter - 6)
}

function badgeText(view, token) {
  const glyph = shortened(view.data.glyphs[token])
  return view.plots.place.withGlyphs ? glyph : `${token} ${glyph}`
}

// The whole token stands in the strip and in the tooltip.
const shortened = (glyph) => (glyph.length > 24 ? `${glyph.slice(0, 23)}…` : glyph)

// [left, right] of the label of a token on the axis; nothing where it is not seen.
function badgeSpan(view, pen, token) {
  const { n, room, column } = view.plots.place
  const x = xOf(view, token) + column / 2
  if (token < 0 || token >= n || x < view.gutter || x > view.gutter + room) return null
  pen.font = `bold ${LABEL} ${view.style.code}`
  const half = pen.measureText(badgeText(view, token)).width / 2 + 4
  const at = Math.max(view.gutter - 6 + half, Math.min(view.plots.place.width - half, x))
  return [at - half, at + half]
}

function markRow(view, pen, row, isPin) {
  const { map, rows } = view.plots.place
  if (row < 0) return
  const y = yOf(view, row) + map.height / rows / 2
  const text = rowLabels(view)[row]
  pen.font = `${isPin ? "bold " : ""}${LABEL} ${view.style.font}`
  badge(view, pen, text, view.gutter - 8 - pen.measureText(text).width / 2, y, isPin, view.style.font)
  if (!isPin) return
  const end = Math.min(view.gutter + view.plots.place.room, xOf(view, view.data.glyphs.length))
  pen.fillStyle = view.style.ink
  pen.fillRect(view.gutter, Math.round(yOf(view, row)) - 1, end - view.gutter, 1)
  pen.fillRect(view.gutter, Math.round(yOf(view, row) + map.height / rows - (map.height / rows >= 6 ? 1 : 0)), end - view.gutter, 1)
}

// A label on the axis: filled for the pin, outlined for what is pointed at.
function badge(view, pen, text, x, y, isFilled, family, from = 0) {
  pen.font = `${isFilled ? "bold " : ""}${LABEL} ${family}`
  pen.textAlign = "center"
  pen.textBaseline = "middle"
  const half = pen.measureText(text).width / 2 + 4
  const at = Math.max(from + half + 1, Math.min(view.plots.place.width - half - 1, x))
  pen.beginPath()
  pen.roundRect(Math.round(at - half), Math.round(y - 8), Math.round(2 * half), 16, 4)
  pen.fillStyle = isFilled ? view.style.ink : view.style.paper
  pen.fill()
  if (!isFilled) {
    pen.strokeStyle = view.style.quiet
    pen.lineWidth = 1
    pen.stroke()
  }
  pen.fillStyle = isFilled ? view.style.paper : view.style.ink
  pen.fillText(text, at, y + 0.5)
}

function outlineCell(view, pen, row, token, line = 2) {
  const { map, rows, room, column } = view.plots.place
  const size = map.height / rows
  const x = xOf(view, token)
  if (x < view.gutter - 1 || x > view.gutter + room) return
  const width = Math.max(3, xOf(view, token + 1) - x - (column >= 6 ? 1 : 0))
  const y = yOf(view, row)
  const height = Math.max(3, size - (size >= 6 ? 1 : 0))
  // Light beside dark, so that it is seen on every colour.
  pen.lineWidth = line + 2
  pen.strokeStyle = view.style.paper
  pen.strokeRect(x - line / 2, y - line / 2, width + line, height + line)
  pen.lineWidth = line
  pen.strokeStyle = view.style.ink
  pen.strokeRect(x - line / 2, y - line / 2, width + line, height + line)
}

// (token, row) under the pointer; the row is null in the profile, the token -1 outside.
function cellAt(view, event) {
  const { place, scroller } = view.plots
  const box = scroller.getBoundingClientRect()
  const x = event.clientX - box.left
  const y = event.clientY - box.top
  const token = Math.floor((x + view.plots.left) / place.column)
  const isInside = x >= 0 && x <= place.room && token >= 0 && token < place.n
  const within = (band) => band && y >= band.top && y < band.top + band.height
  if (within(place.overview)) return { token: -1, row: null, overview: x / place.room }
  if (!isInside) return { token: -1, row: null }
  if (within(place.map)) return { token, row: place.rows - 1 - Math.floor((y - place.map.top) / (place.map.height / place.rows)) }
  return within(place.profile) ? { token, row: null } : { token: -1, row: null }
}

function pointAt(view, event) {
  if (view.plots.isDragged) return moveOverview(view, event)
  const { token, row, overview } = cellAt(view, event)
  view.plots.scroller.style.cursor = token >= 0 ? "pointer" : overview !== undefined ? "ew-resize" : ""
  hover(view, token, row, null, event)
}

function clickAt(view, event) {
  const { token, row } = cellAt(view, event)
  if (token >= 0) pinned(view, token, row === null ? null : view.data.layers[row])
}

function beginDrag(view, event) {
  if (cellAt(view, event).overview === undefined) return
  view.plots.isDragged = true
  view.plots.scroller.setPointerCapture(event.pointerId)
  const end = () => (view.plots.isDragged = false)
  for (const name of ["pointerup", "pointercancel"]) view.listen(view.plots.scroller, name, end, { once: true })
  moveOverview(view, event)
}

function moveOverview(view, event) {
  const { place, scroller } = view.plots
  const share = (event.clientX - scroller.getBoundingClientRect().left) / place.room
  scrollPlots(view, share * place.n * place.column - place.room / 2)
}

function revealColumn(view, token) {
  const { place, left } = view.plots
  if (!place?.isScrolled || view.plots.box.hidden) return
  const x = token * place.column
  if (x < left || x + place.column > left + place.room) scrollPlots(view, x - place.room / 2)
}

function plotKey(view, event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return
  const { place } = view.plots
  const from = view.pointed.token >= 0 ? view.pointed : { token: view.pin.token, row: place.map ? view.row : null }
  const row = from.row ?? (place.map ? view.row : null)
  const last = place.n - 1
  const target = {
    ArrowRight: [from.token + 1, row],
    ArrowLeft: [from.token - 1, row],
    ArrowUp: [from.token, row === null ? null : row + 1],
    ArrowDown: [from.token, row === null ? null : row - 1],
    Home: [0, row],
    End: [last, row],
  }[event.key]
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault()
    pinned(view, from.token, row === null ? null : view.data.layers[row])
  } else if (event.key === "Escape") hover(view, -1)
  else if (target) {
    event.preventDefault()
    const token = Math.max(0, Math.min(last, target[0]))
    const layer = target[1] === null ? null : Math.max(0, Math.min(place.rows - 1, target[1]))
    revealColumn(view, token)
    hover(view, token, layer)
    view.find(".spoken").textContent =
      `${view.data.glyphs[token]}, token ${token}, ${view.data.names[layer ?? view.row]}, ` +
      `${view.data.metric.label} ${number(valueAt(view, layer ?? view.row, token))}`
  }
}
