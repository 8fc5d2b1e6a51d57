// Saves figures of the page as images. Plotly makes them in the browser, by the button that each figure has, from
// what it finds in the figure's layout and context at that moment.

const FONT = "Arial, Helvetica, sans-serif"

// An image has no web fonts: in another font than the page's, but measured in that one. And a ground to be read on.
const forImage = (layout) => {
  const copy = JSON.parse(JSON.stringify(layout, (key, value) => (key === "family" ? FONT : value)))
  copy.font = { ...copy.font, family: FONT }
  copy.paper_bgcolor = getComputedStyle(document.querySelector(".stApp")).backgroundColor
  return copy
}

const unnoticed = (event) => {
  if (!event.isTrusted && event.target instanceof HTMLAnchorElement && event.target.download) event.stopPropagation()
}

const save = (figure, format) => {
  const plot = document.querySelector(`.st-key-${CSS.escape(figure.key)} .js-plotly-plot`)
  const button = plot?.querySelector('.modebar-btn[data-title^="Download plot"]')
  if (!button) return
  // Neither this click nor that on the link which Plotly makes may reach the popover, which would close.
  addEventListener("click", unnoticed, true)
  setTimeout(() => removeEventListener("click", unnoticed, true), 5000)
  const own = [plot.layout, plot._context.toImageButtonOptions]
  plot.layout = forImage(plot.layout)
  plot._context.toImageButtonOptions = { format, filename: `npt_viz_${figure.key}`, scale: format === "png" ? 2 : 1 }
  button.dispatchEvent(new MouseEvent("click", { bubbles: false }))
  ;[plot.layout, plot._context.toImageButtonOptions] = own
}

export default function ({ data, parentElement }) {
  parentElement.querySelector(".npt-images").replaceChildren(
    ...["png", "svg"].map((format) => {
      const button = document.createElement("button")
      button.type = "button"
      button.textContent = format.toUpperCase()
      button.onclick = () => save(data.figure, format)
      return button
    })
  )
}
