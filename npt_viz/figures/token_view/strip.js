// Strip: the prompt as running text, every token a button. Lines are laid out by measuring, so that of a long prompt
// only the visible ones exist. Token text is untrusted: it only ever becomes textContent or fillText, never HTML.

const LINE = 27
const SPARE_LINES = 6
const DRAW_ALL = 400
const FEWEST_LINES = 2
const NARROWEST = 20
// Border and scroll bar of the strip, and room for a font that is measured a little too narrow.
const STRIP_EDGES = 22
const TOKEN_PADDING = 10
const SPECIAL_PADDING = 16
const TOKEN_GAP = 4
const STRIP_PADDING = 6

function strip(view) {
  const box = view.find(".tokens")
  const made = { box, sheet: view.find(".sheet"), lines: [], shown: new Map(), widths: new Map(), stop: 0, top: 0, height: 0 }
  const tokenOf = (event) => Number(event.target.closest?.("button")?.dataset.token ?? -1)
  view.listen(box, "click", (event) => tokenOf(event) >= 0 && pinned(view, tokenOf(event), null))
  view.listen(box, "keydown", (event) => stripKey(view, tokenOf(event), event))
  view.listen(box, "scroll", () => scrolledStrip(view), { passive: true })
  for (const name of ["mouseover", "focusin"])
    view.listen(box, name, (event) => tokenOf(event) >= 0 && hover(view, tokenOf(event), null, event.target.closest("button")))
  for (const name of ["mouseleave", "focusout"]) view.listen(box, name, () => hover(view, -1))
  return made
}

// Top and height are kept: asking the browser for them would make it lay out the page in the middle of a pin.
function scrolledStrip(view) {
  view.strip.top = view.strip.box.scrollTop
  hover(view, -1)
  view.later(renderLines)
}

function layLines(view) {
  const { strip, data } = view
  const { glyphs, kinds } = data
  if (!data.parts.includes("strip")) return
  const pen = view.measuring
  pen.font = `${view.style.tokenSize} ${view.style.code}`
  if (strip.font !== pen.font) strip.widths.clear()
  strip.font = pen.font
  const room = view.width - view.gutter - STRIP_EDGES
  const lines = []
  strip.lineOf = new Int32Array(glyphs.length)
  strip.middles = new Float32Array(glyphs.length)
  let x = 0
  let line = null
  const begin = (token) => {
    line = { first: token, last: token }
    lines.push(line)
    x = 0
  }
  glyphs.forEach((glyph, token) => {
    let width = strip.widths.get(glyph)
    if (width === undefined) strip.widths.set(glyph, (width = pen.measureText(glyph).width))
    width = Math.max(NARROWEST, width + (kinds[token] === "special" ? SPECIAL_PADDING : TOKEN_PADDING))
    // A newline of the prompt is a new line here too, so that long prompts and code keep their shape.
    const newline = glyph.lastIndexOf("↵")
    const endsLine = newline >= 0 && newline === glyph.length - 1
    if (!line || x + width > room || (newline >= 0 && !endsLine && x > 0)) begin(token)
    line.last = token
    strip.lineOf[token] = lines.length - 1
    strip.middles[token] = x + width / 2
    x += width + TOKEN_GAP
    if (endsLine) line = null
  })
  strip.lines = lines
  strip.sheet.style.height = `${lines.length * LINE}px`
  for (const element of strip.shown.values()) element.remove()
  strip.shown.clear()
  strip.top = strip.box.scrollTop
  // Lines and padding are the whole height, where the box is not hidden behind the text.
  strip.height = parseInt(strip.box.style.maxHeight) - STRIP_PADDING
  renderLines(view)
}

// Only visible lines exist, and the one that has the focus.
function renderLines(view) {
  const { strip, data } = view
  if (!strip.lines.length) return
  const { top, height } = strip
  const isAll = data.glyphs.length <= DRAW_ALL
  const from = isAll ? 0 : Math.max(0, Math.floor(top / LINE) - SPARE_LINES)
  const to = isAll ? strip.lines.length - 1 : Math.min(strip.lines.length - 1, Math.ceil((top + height) / LINE) + SPARE_LINES)
  const focused = document.activeElement === view.root.host ? Number(view.root.activeElement?.dataset.token ?? -1) : -1
  const kept = focused >= 0 ? strip.lineOf[focused] : -1
  for (const [index, element] of strip.shown) {
    if ((index < from || index > to) && index !== kept) {
      element.remove()
      strip.shown.delete(index)
    }
  }
  // The place that the Tab key stops at has to exist.
  const wanted = strip.lineOf[view.pin.token]
  const first = strip.lines[Math.min(Math.floor(from + (isAll ? 0 : SPARE_LINES)), to)].first
  strip.stop = kept >= 0 ? focused : wanted >= from && wanted <= to ? view.pin.token : first
  const fresh = document.createDocumentFragment()
  for (let index = from; index <= to; index++) {
    if (strip.shown.has(index)) continue
    const element = lineElement(view, index)
    strip.shown.set(index, element)
    fresh.append(element)
  }
  strip.sheet.append(fresh)
  for (const token of [strip.oldStop, strip.stop]) {
    const button = tokenButton(view, token)
    if (button) button.tabIndex = token === strip.stop ? 0 : -1
  }
  strip.oldStop = strip.stop
}

function lineElement(view, index) {
  const { first, last } = view.strip.lines[index]
  const line = element("div", "line")
  line.style.top = `${index * LINE}px`
  const number = element("span", "number", String(first))
  number.style.width = `${view.gutter - 12}px`
  number.setAttribute("aria-hidden", "true")
  line.append(number)
  for (let token = first; token <= last; token++) {
    const button = element("button", `token ${view.data.kinds[token]}`, view.data.glyphs[token])
    button.type = "button"
    button.dataset.token = token
    button.tabIndex = -1
    paintToken(view, button, token)
    line.append(button)
  }
  return line
}

function paintToken(view, button, token) {
  const value = valueAt(view, view.row, token)
  const shade = view.hidden[token] ? -1 : shadeOf(view, value)
  button.style.background = shade < 0 ? "" : view.data.metric.shades[shade]
  button.style.color = shade < 0 ? "" : view.data.metric.inks[shade]
  button.classList.toggle("left-out", Boolean(view.hidden[token]))
  button.classList.toggle("no-value", shade < 0 && !view.hidden[token])
  button.setAttribute("aria-pressed", String(token === view.pin.token))
  button.setAttribute("aria-label", spoken(view, token))
}

function spoken(view, token) {
  return `${view.data.glyphs[token]}, token ${token}, ${view.data.metric.label} ${number(valueAt(view, view.row, token))}`
}

function repaintTokens(view) {
  for (const line of view.strip.shown.values())
    for (const button of line.querySelectorAll("button")) paintToken(view, button, Number(button.dataset.token))
}

function tokenButton(view, token) {
  return view.strip.shown.get(view.strip.lineOf?.[token])?.querySelector(`[data-token="${token}"]`)
}

function markPin(view, before) {
  for (const token of [before, view.pin.token])
    tokenButton(view, token)?.setAttribute("aria-pressed", String(token === view.pin.token))
}

function reveal(view, token) {
  const { box, lineOf, top, height } = view.strip
  if (!lineOf || lineOf[token] === undefined) return
  const y = lineOf[token] * LINE
  if (y < top || y + LINE > top + height) {
    box.scrollTop = Math.round((y - (height - LINE) / 2) / LINE) * LINE
    view.strip.top = box.scrollTop
  }
  renderLines(view)
}

function stripKey(view, token, event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return
  if (event.key === "Escape") hover(view, -1)
  if (event.key === "e" && view.data.prompt) {
    event.preventDefault()
    event.stopPropagation()
    beginEdit(view)
    return
  }
  if (token < 0) return
  const last = view.data.glyphs.length - 1
  const page = Math.max(1, Math.floor(view.strip.height / LINE) - 1)
  const target = {
    ArrowRight: () => Math.min(token + 1, last),
    ArrowLeft: () => Math.max(token - 1, 0),
    ArrowDown: () => lineAway(view, token, 1),
    ArrowUp: () => lineAway(view, token, -1),
    PageDown: () => lineAway(view, token, page),
    PageUp: () => lineAway(view, token, -page),
    Home: () => 0,
    End: () => last,
  }[event.key]
  if (!target) return
  event.preventDefault()
  const next = target()
  reveal(view, next)
  tokenButton(view, next)?.focus({ preventScroll: true })
  renderLines(view)
}

function focusStrip(view) {
  tokenButton(view, view.strip.stop)?.focus({ preventScroll: true })
}

// The token nearest to this one, some lines up or down.
function lineAway(view, token, lines) {
  const { lineOf, middles } = view.strip
  const line = view.strip.lines[Math.max(0, Math.min(view.strip.lines.length - 1, lineOf[token] + lines))]
  let best = line.first
  for (let i = line.first; i <= line.last; i++)
    if (Math.abs(middles[i] - middles[token]) < Math.abs(middles[best] - middles[token])) best = i
  return lineOf[best] === lineOf[token] ? token : best
}
