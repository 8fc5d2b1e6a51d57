// The address of this view, as the browser has it, and a button that copies it.

export default function ({ parentElement }) {
  const field = parentElement.querySelector("input")
  const button = parentElement.querySelector("button")
  const show = () => (field.value = location.href)
  show()
  const copy = async () => {
    show()
    field.select()
    try {
      await navigator.clipboard.writeText(field.value)
    } catch {
      document.execCommand("copy")
    }
    button.textContent = "Copied"
  }
  button.addEventListener("click", copy)
  field.addEventListener("focus", show)
  return () => {
    button.removeEventListener("click", copy)
    field.removeEventListener("focus", show)
  }
}
