// The prompt as running text: every token a button, its colour a number, its tooltip all numbers.
// Token text is untrusted: it only ever becomes textContent, never HTML.

export default function ({ data, parentElement, setTriggerValue }) {
  const host = parentElement.querySelector(".npt-strip")
  const strip = host.npt ?? (host.npt = built(host))
  strip.data = data
  strip.pin = (index) => setTriggerValue("pinned", index)
  const text = JSON.stringify([data.glyphs, data.kinds])
  if (strip.text !== text) {
    strip.text = text
    layTokens(strip)
  }
  colourTokens(strip)
  drawLegend(strip)
}

function built(host) {
  const strip = {
    legend: host.querySelector(".legend"),
    tokens: host.querySelector(".tokens"),
    tip: host.querySelector(".tip"),
    buttons: [],
  }
  const indexOf = (event) => strip.buttons.indexOf(event.target.closest?.("button"))
  strip.tokens.addEventListener("click", (event) => {
    const index = indexOf(event)
    if (index >= 0) strip.pin(index)
  })
  strip.tokens.addEventListener("keydown", (event) => moveFocus(strip, indexOf(event), event))
  for (const name of ["mouseover", "focusin"])
    strip.tokens.addEventListener(name, (event) => showTip(strip, indexOf(event)))
  for (const name of ["mouseleave", "focusout", "scroll"])
    strip.tokens.addEventListener(name, () => (strip.tip.hidden = true))
  return strip
}

function layTokens(strip) {
  const { glyphs, kinds } = strip.data
  strip.buttons = glyphs.map((glyph, index) => {
    const button = document.createElement("button")
    button.type = "button"
    button.className = `token ${kinds[index]}`
    button.textContent = glyph
    return button
  })
  const laid = []
  strip.buttons.forEach((button, index) => {
    // A newline of the prompt is a new line here too, so that long prompts and code keep their shape.
    const newline = glyphs[index].lastIndexOf("↵")
    const isLast = newline === glyphs[index].length - 1
    if (newline >= 0 && !isLast && index > 0) laid.push(document.createElement("br"))
    laid.push(button)
    if (newline >= 0 && isLast) laid.push(document.createElement("br"))
  })
  strip.tokens.replaceChildren(...laid)
}

function colourTokens(strip) {
  const { colours, inks, left_out, pinned, spoken } = strip.data
  strip.buttons.forEach((button, index) => {
    const isPinned = index === pinned
    button.style.background = colours[index] ?? ""
    button.style.color = inks[index]
    button.classList.toggle("left-out", left_out[index])
    button.setAttribute("aria-pressed", String(isPinned))
    button.setAttribute("aria-label", spoken[index])
    // One stop for the Tab key; inside the strip the arrows move.
    button.tabIndex = isPinned ? 0 : -1
  })
  const pinnedButton = strip.buttons[pinned]
  if (pinnedButton && strip.shownPin !== pinned) {
    strip.shownPin = pinned
    const box = strip.tokens
    const above = pinnedButton.offsetTop - box.offsetTop
    if (above < box.scrollTop || above > box.scrollTop + box.clientHeight - 30)
      box.scrollTop = above - box.clientHeight / 2
  }
}

function moveFocus(strip, index, event) {
  if (index < 0) return
  const last = strip.buttons.length - 1
  const target = {
    ArrowRight: () => Math.min(index + 1, last),
    ArrowLeft: () => Math.max(index - 1, 0),
    ArrowDown: () => nearestInLine(strip, index, 1),
    ArrowUp: () => nearestInLine(strip, index, -1),
    Home: () => 0,
    End: () => last,
  }[event.key]
  if (event.key === "Escape") strip.tip.hidden = true
  if (!target) return
  event.preventDefault()
  const button = strip.buttons[target()]
  strip.buttons[index].tabIndex = -1
  button.tabIndex = 0
  button.focus()
}

function nearestInLine(strip, index, direction) {
  const from = strip.buttons[index]
  const middle = from.offsetLeft + from.offsetWidth / 2
  let best = index
  let line = null
  for (let i = index + direction; strip.buttons[i]; i += direction) {
    const { offsetTop, offsetLeft, offsetWidth } = strip.buttons[i]
    if (offsetTop === from.offsetTop) continue
    line ??= offsetTop
    if (offsetTop !== line) break
    const distance = (j) => Math.abs(strip.buttons[j].offsetLeft + strip.buttons[j].offsetWidth / 2 - middle)
    if (best === index || distance(i) < distance(best)) best = i
  }
  return best
}

function showTip(strip, index) {
  if (index < 0) return
  const { raws, ids, columns, left_out } = strip.data
  const rows = columns.map(({ label, values, coloured }) => [label, values[index], coloured ? "coloured" : ""])
  const title = element("div", "title", raws[index])
  const where = element("div", "where", `token ${index} · id ${ids[index]}${left_out[index] ? " · attention sink" : ""}`)
  const table = element("div", "rows")
  for (const [label, value, mark] of rows)
    table.append(element("span", mark, label), element("span", `value ${mark}`, value))
  strip.tip.replaceChildren(title, where, table)
  strip.tip.hidden = false
  const token = strip.buttons[index].getBoundingClientRect()
  const tip = strip.tip.getBoundingClientRect()
  const below = token.bottom + 6 + tip.height < window.innerHeight
  strip.tip.style.left = `${Math.max(8, Math.min(token.left, window.innerWidth - tip.width - 16))}px`
  strip.tip.style.top = `${below ? token.bottom + 6 : token.top - tip.height - 6}px`
}

function drawLegend(strip) {
  const { legend } = strip.data
  const bar = element("span", "bar")
  bar.style.background = `linear-gradient(to right, ${legend.stops.join(",")})`
  const scale = element("span", "scale")
  scale.append(element("span", "", legend.low), bar, element("span", "", legend.high))
  const name = element("span", "name", legend.label)
  const meaning = element("span", "meaning", legend.meaning)
  name.title = meaning.title = legend.meaning
  strip.legend.replaceChildren(element("span", "count", legend.count), name, meaning, scale)
}

function element(tag, className, text) {
  const made = document.createElement(tag)
  if (className) made.className = className
  if (text !== undefined) made.textContent = text
  return made
}
