// A token view without a server: the choice of its colour, and the numbers of the pinned token, from the page itself.

function alone(root, data, draw) {
  const find = (selector) => root.querySelector(selector)
  const choice = find(".metric")
  for (const name of Object.keys(data.metrics)) {
    const option = document.createElement("option")
    option.value = name
    option.textContent = data.metrics[name].metric.label
    choice.append(option)
  }
  choice.value = data.first
  const show = () => draw({ data: { ...data.view, ...data.metrics[choice.value] }, parentElement: root, setTriggerValue: () => {} })
  choice.addEventListener("change", show)
  const tell = (detail) => window.dispatchEvent(new CustomEvent("npt-pin", { detail: { channel: data.view.channel, at: 0, ...detail } }))
  window.addEventListener("npt-pin", ({ detail }) => {
    if (detail.channel === data.view.channel && detail.token !== null) card(root, data, detail)
  })
  show()
  tell({ token: data.token, layer: data.layer, from: "server" })
}

function card(root, data, { token, layer }) {
  const { view, metrics } = data
  const pinned = data.layers.includes(layer) ? layer : data.layer
  const cell = (text, tag = "td") => {
    const made = document.createElement(tag)
    made.textContent = text
    return made
  }
  const row = (...cells) => {
    const made = document.createElement("tr")
    made.append(...cells)
    return made
  }
  root.querySelector(".pinned").textContent = `${view.glyphs[token]}  token ${token}, layer ${pinned}`
  const numbers = Object.values(metrics).map(({ metric, values, layers }) => {
    const at = Math.max(0, layers.indexOf(pinned)) * view.glyphs.length + token
    const name = cell(metric.label)
    name.title = metric.meaning
    return row(name, cell(number(decoded(values)[at])))
  })
  root.querySelector(".numbers").replaceChildren(...numbers)
  const next = data.next.map(({ name, glyphs, probabilities }) =>
    row(cell(name, "th"), ...glyphs[token].map((glyph, i) => cell(`${glyph} ${probabilities[token][i].toFixed(2)}`))),
  )
  root.querySelector(".next").replaceChildren(...next)
}
