// Token view: state of one view, its pin, its pointer, its legend. The parts are in the files beside this one.

const PIN = "npt-pin"
const PIN_WANTED = "npt-pin-wanted"

export default function ({ data, parentElement, setTriggerValue }) {
  const host = parentElement.querySelector(".npt-view")
  const view = host.view ?? (host.view = built(host, parentElement))
  view.send = setTriggerValue
  view.data = data
  readStyle(view)
  if (view.digest !== data.digest) take(view)
  else if (view.styleRead !== view.styleDrawn) layOut(view)
  view.styleDrawn = view.styleRead
  if (!view.hasAsked) {
    view.hasAsked = true
    window.dispatchEvent(new CustomEvent(PIN_WANTED))
  }
  return view.end
}

function built(host, root) {
  const control = new AbortController()
  const frames = new Map()
  const view = {
    host,
    root,
    find: (selector) => host.querySelector(selector),
    listen: (target, name, act, options) => target.addEventListener(name, act, { ...options, signal: control.signal }),
    // Draws once a frame, however often it is asked to.
    later: (draw) => {
      if (!frames.has(draw)) frames.set(draw, requestAnimationFrame(() => (frames.delete(draw), draw(view))))
    },
    measuring: document.createElement("canvas").getContext("2d"),
    pin: { token: -1, layer: null },
    pointed: { token: -1, row: null },
    heard: 0,
    waiting: null,
    isEditing: false,
  }
  view.strip = strip(view)
  view.plots = plots(view)
  view.box = promptBox(view)
  view.listen(window, PIN, ({ detail }) => hear(view, detail))
  const observer = new ResizeObserver(() => {
    if (view.width !== host.clientWidth) view.later(layOut)
  })
  observer.observe(host)
  view.listen(document.fonts, "loadingdone", () => view.later(layOut))
  view.end = () => {
    control.abort()
    observer.disconnect()
    for (const frame of frames.values()) cancelAnimationFrame(frame)
    host.view = undefined
  }
  return view
}

function take(view) {
  const { data } = view
  view.digest = data.digest
  view.host.style.minHeight = ""
  view.values = decoded(data.values)
  view.columns = data.columns.map(({ label, numbers, texts }) => ({ label, texts, numbers: numbers && decoded(numbers) }))
  view.hidden = new Uint8Array(data.glyphs.length)
  for (const token of data.left_out) view.hidden[token] = 1
  // Whole lines, and what lies around them; the text box has the same height.
  const lines = Math.max(FEWEST_LINES, Math.floor((data.heights.strip - STRIP_PADDING) / LINE))
  view.strip.box.style.maxHeight = `${lines * LINE + STRIP_PADDING}px`
  view.strip.box.style.minHeight = `${FEWEST_LINES * LINE + STRIP_PADDING}px`
  view.row = rowOf(view)
  hover(view, -1)
  const wasWaiting = view.waiting !== null
  takePrompt(view)
  layOut(view)
  reveal(view, view.pin.token)
  revealColumn(view, view.pin.token)
  if (wasWaiting && document.activeElement === document.body) focusStrip(view)
}

function decoded(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0))
  return new Float32Array(bytes.buffer)
}

function layOut(view) {
  if (!view.data) return
  view.width = view.host.clientWidth
  if (!view.width) return
  view.gutter = gutterOf(view)
  drawLegend(view)
  layLines(view)
  layPlots(view)
}

function readStyle(view) {
  const style = getComputedStyle(view.host)
  const read = (name, otherwise) => style.getPropertyValue(name).trim() || otherwise
  const isDark = view.data.theme === "dark"
  view.style = {
    ink: read("--st-text-color", isDark ? "#e3e5ea" : "#23262d"),
    paper: read("--st-background-color", isDark ? "#14161b" : "#ffffff"),
    font: read("--st-font", "sans-serif"),
    code: `${read("--st-code-font", "monospace")}, monospace`,
    tokenSize: "13px",
    quiet: isDark ? "#a4a9b4" : "#646a75",
    rule: "#868b95",
    edge: "rgba(128,132,142,0.55)",
    pinBand: isDark ? "rgba(227,229,234,0.13)" : "rgba(35,38,45,0.09)",
    pointBand: "rgba(128,132,142,0.12)",
  }
  view.styleRead = Object.values(view.style).join()
  view.hatch = hatch(view)
}

function hatch(view) {
  const tile = document.createElement("canvas")
  tile.width = tile.height = 5
  const pen = tile.getContext("2d")
  pen.strokeStyle = "rgba(128,132,142,0.45)"
  pen.lineWidth = 1.2
  for (const shift of [-5, 0, 5]) {
    pen.moveTo(shift - 1, 6)
    pen.lineTo(shift + 6, -1)
  }
  pen.stroke()
  return view.measuring.createPattern(tile, "repeat")
}

const valueAt = (view, row, token) => view.values[row * view.data.glyphs.length + token]

function shadeOf(view, value) {
  if (!Number.isFinite(value)) return -1
  const { low, high, shades } = view.data.metric
  const share = (value - low) / (high - low || 1)
  return Math.round(Math.max(0, Math.min(1, share)) * (shades.length - 1))
}

function rowOf(view) {
  const { layers, layer } = view.data
  const pinnedRow = view.pin.layer === null ? -1 : layers.indexOf(view.pin.layer)
  return pinnedRow >= 0 ? pinnedRow : layers.indexOf(layer)
}

const stamp = () => performance.timeOrigin + performance.now()

// A token was pinned here: shown at once by every view, then told to the server.
function pinned(view, token, layer) {
  const at = stamp()
  const shown = layer ?? view.pin.layer
  window.dispatchEvent(
    new CustomEvent(PIN, { detail: { channel: view.data.channel, token, layer: shown, at, from: "browser" } }),
  )
  view.send("pinned", { token, layer, at })
}

function hear(view, { channel, token, layer, at, from }) {
  if (!view.data || channel !== view.data.channel) return
  // The server's answer to an older click must not undo a newer one.
  if (from === "server" && at < view.heard) return
  view.heard = at
  if (from === "server" && view.waiting !== null && at >= view.waiting) {
    view.waiting = null
    showTools(view)
  }
  const before = { ...view.pin, row: view.row }
  if (before.token === (token ?? -1) && before.layer === layer) return
  view.pin = { token: token ?? -1, layer }
  markPin(view, before.token)
  const row = rowOf(view)
  if (row !== view.row) {
    view.row = row
    repaintTokens(view)
  }
  view.later(row === before.row ? drawOver : drawPlots)
  reveal(view, view.pin.token)
  revealColumn(view, view.pin.token)
  drawCaption(view)
  markLegend(view)
}

// Pointed at: row is null where all layers are meant; token -1 for nothing.
function hover(view, token, row = null, anchor = null, event = null) {
  const before = view.pointed
  view.pointed = { token, row }
  if (token !== before.token) {
    tokenButton(view, before.token)?.classList.remove("pointed")
    tokenButton(view, token)?.classList.add("pointed")
  }
  if (token !== before.token || row !== before.row) {
    view.later(drawOver)
    markLegend(view)
    if (token >= 0) fillTip(view, token, row ?? view.row)
  }
  const tip = view.find(".tip")
  tip.hidden = token < 0
  if (token >= 0) placeTip(view, tip, anchor, event)
}

function fillTip(view, token, row) {
  const { data } = view
  const { metric } = data
  const title = element("div", "title", data.raws[token])
  const sink = view.hidden[token] ? " · attention sink" : ""
  const where = element("div", "where", `token ${token} · ${data.names[row]} · id ${data.ids[token]}${sink}`)
  const table = element("div", "rows")
  const add = (label, value, mark) => table.append(element("span", mark, label), element("span", `value ${mark}`, value))
  const ofShown = data.layers[row] === data.layer
  const isListed = ofShown && view.columns.some(({ label }) => label === metric.label)
  if (!isListed) add(metric.label, number(valueAt(view, row, token)), "coloured")
  if (ofShown)
    for (const { label, numbers, texts } of view.columns)
      add(label, texts ? texts[token] : number(numbers[token]), label === metric.label ? "coloured" : "")
  view.find(".tip").replaceChildren(title, where, table)
}

function placeTip(view, tip, anchor, event) {
  let at = anchor?.getBoundingClientRect()
  if (event) at = { left: event.clientX + 14, bottom: event.clientY + 8, top: event.clientY - 8 }
  else if (!at) {
    const box = view.plots.box.getBoundingClientRect()
    const { axis } = view.plots.place
    at = { left: box.left + xOf(view, view.pointed.token), bottom: box.top + axis.top + axis.height, top: box.top }
  }
  const size = tip.getBoundingClientRect()
  const isBelow = at.bottom + 6 + size.height < window.innerHeight
  const x = event && at.left + size.width + 16 > window.innerWidth ? event.clientX - size.width - 14 : at.left
  tip.style.left = `${Math.max(8, Math.min(x, window.innerWidth - size.width - 16))}px`
  tip.style.top = `${isBelow ? at.bottom + 6 : Math.max(4, at.top - size.height - 6)}px`
}

// The scale stands in the caption of the profile, or else above the strip.
function drawLegend(view) {
  const { data } = view
  const parts = [element("span", "count", data.count)]
  if (!data.parts.includes("profile")) parts.push(metricName(view, "name"), scale(view))
  view.find(".legend").replaceChildren(...parts)
  view.find(".legend").hidden = view.isEditing || !data.glyphs.length
  drawCaption(view)
  markLegend(view)
}

function metricName(view, className) {
  const { label, meaning, unit } = view.data.metric
  const name = element("b", className, label)
  name.title = meaning + (unit ? `  [${unit}]` : "")
  return name
}

function scale(view) {
  const { metric } = view.data
  const bar = element("span", "scale-bar")
  const stops = Array.from({ length: 17 }, (_, i) => metric.shades[Math.round((i / 16) * (metric.shades.length - 1))])
  bar.style.background = `linear-gradient(to right, ${stops.join(",")})`
  const share = metric.reference === null ? 0 : (metric.reference - metric.low) / (metric.high - metric.low || 1)
  if (share > 0.15 && share < 0.85) {
    const middle = element("span", "middle", number(metric.reference))
    middle.style.left = `${100 * share}%`
    bar.append(middle)
  }
  bar.append(element("span", "marker"))
  const made = element("span", "scale")
  made.append(element("span", "", number(metric.low)), bar, element("span", "", number(metric.high)))
  return made
}

function drawCaption(view) {
  const { rows, names, numbered, parts } = view.data
  if (!parts.includes("profile")) return
  const { median } = rows[view.row]
  const said = element("span", "said")
  said.append(metricName(view, "name"), numbered ? ` in ${names[view.row]}` : ` · ${names[view.row]}`)
  if (median !== null) said.append(` · median ${number(median)} `, element("span", "dotted"))
  view.find(".caption").replaceChildren(said, scale(view))
}

// Where on the scale the token lies that is pointed at, or else the pinned one.
function markLegend(view) {
  const marker = view.find(".marker")
  if (!marker) return
  const token = view.pointed.token >= 0 ? view.pointed.token : view.pin.token
  const row = view.pointed.token >= 0 ? (view.pointed.row ?? view.row) : view.row
  const shade = token >= 0 && token < view.data.glyphs.length ? shadeOf(view, valueAt(view, row, token)) : -1
  marker.hidden = shade < 0
  marker.style.left = `${(100 * shade) / (view.data.metric.shades.length - 1)}%`
}

// Three significant digits, as npt_viz.results.words.number writes them.
function number(value) {
  if (!Number.isFinite(value)) return "–"
  const size = Math.abs(value)
  let text
  if (size === 0) text = "0"
  else if (size >= 1e7) text = exponent(size.toExponential(2))
  else if (size >= 999.5) text = whole(size).toLocaleString("en-US")
  else text = significant(size, size < 1e-4 ? 2 : 3)
  return value < 0 ? `−${text}` : text
}

function significant(size, digits) {
  const [mantissa, power] = size.toExponential(digits - 1).split("e")
  return Number(power) < -4 ? exponent(`${Number(mantissa)}e${power}`) : String(Number(size.toPrecision(digits)))
}

// Halves to the even number.
const whole = (size) => Math.round(size) - (size % 1 === 0.5 && Math.round(size) % 2 ? 1 : 0)

const exponent = (text) => text.replace(/e([+-])(\d)$/, "e$10$2")

function element(tag, className, text) {
  const made = document.createElement(tag)
  if (className) made.className = className
  if (text !== undefined) made.textContent = text
  return made
}
