// Marks the page while the text in the prompt's form is not the prompt that is shown: a form tells the server only
// when it is sent.

export default function ({ data }) {
  const shown = data.prompt.replace(/\r\n?/g, "\n")
  const mark = () => {
    const field = document.querySelector(".st-key-prompt textarea")
    document.body.toggleAttribute("data-npt-edited", field !== null && field.value !== shown)
  }
  mark()
  // Streamlit writes into the field without an event, so that listening for input is not enough.
  const timer = setInterval(mark, 200)
  return () => clearInterval(timer)
}
