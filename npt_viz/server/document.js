// Runs before Streamlit's own code.

{
  // The browser's id: 128 random bits, made once. The first of two tabs that are opened at once makes it for both.
  // Where cookies are blocked none is sent, and a session is its own owner.
  const name = "npt_viz_browser"
  const id = document.cookie.match(`(?:^|; )${name}=([0-9a-f]{32})(?:;|$)`)?.[1]
  const bytes = crypto.getRandomValues(new Uint8Array(16))
  const made = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")
  const secure = location.protocol === "https:" ? "; Secure" : ""
  document.cookie = `${name}=${id ?? made}; path=/; max-age=${400 * 24 * 3600}; SameSite=Strict${secure}`
}

{
  // One entry in the browser's history for each page and each pin. Streamlit writes a change of page first and its
  // parameters a moment later, each as an entry of its own: the second takes the place of the first.
  const push = history.pushState.bind(history)
  let path = location.pathname
  let isBare = false
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

{
  // Streamlit puts the groups of its navigation as <div> into one <ul>: screen readers would find no list in it.
  const mend = () => {
    for (const list of document.querySelectorAll("ul[data-testid=stSidebarNavItems]")) {
      if (!list.role) list.role = "none"
      for (const group of list.querySelectorAll(":scope > div:not([role])")) group.role = "list"
    }
  }
  new MutationObserver(mend).observe(document.documentElement, { childList: true, subtree: true })
}
