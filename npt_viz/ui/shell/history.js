// One entry in the browser's history for each page and each pin. Streamlit writes a change of page first and its
// parameters a moment later, each as an entry of its own: the second takes the place of the first.

export default function () {
  if (history.npt) return
  const push = history.pushState.bind(history)
  let path = location.pathname
  let isBare = false
  history.npt = true
  history.pushState = (state, title, url) => {
    const to = new URL(url, location.href)
    const isOtherPage = to.pathname !== path
    if (isBare && !isOtherPage) history.replaceState(state, title, url)
    else push(state, title, url)
    isBare = isOtherPage
    path = to.pathname
  }
  addEventListener("popstate", () => {
    path = location.pathname
    isBare = false
  })
}
