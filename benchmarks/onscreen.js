// Injected into every tab of a benchmark: when things first stood on the screen, in ms since the page was asked for.
(() => {
  const seen = { figures: 0 }
  let drawn = 0
  let changed = performance.now()
  let dirty = false

  const roots = () => [
    document,
    ...[...document.querySelectorAll("[data-testid=stBidiComponentIsolated]")].map((host) => host.shadowRoot).filter(Boolean),
  ]
  const all = (selector) => roots().flatMap((root) => [...root.querySelectorAll(selector)])
  const isShown = (element) => {
    const { width, height } = element.getBoundingClientRect()
    return width > 0 && height > 0 && !(element.getRootNode().host ?? element).closest("[data-stale=true]")
  }
  const first = (selector) => all(selector).find(isShown)

  const eachFrame = (step) => {
    const frame = () => step() || requestAnimationFrame(frame)
    requestAnimationFrame(frame)
  }
  // After the paint of this frame: a message sent in a frame is delivered when it is on the screen.
  const afterPaint = (then) => {
    const channel = new MessageChannel()
    channel.port1.onmessage = () => then(performance.now())
    channel.port2.postMessage(0)
  }

  const watch = (selectors) => {
    eachFrame(() => {
      for (const [name, selector] of Object.entries(selectors))
        if (!(name in seen) && first(selector)) seen[name] = performance.now()
      const now = document.querySelectorAll(".js-plotly-plot .main-svg").length
      if (now > drawn) seen.figures = performance.now()
      drawn = now
      if (dirty) changed = performance.now()
      dirty = false
    })
    const isMain = ({ target }) => (target.closest ? target : target.parentElement)?.closest("[data-testid=stMain]")
    new MutationObserver((records) => (dirty ||= records.some(isMain))).observe(document, {
      subtree: true, childList: true, characterData: true, attributes: true,
    })
  }

  const isAtRest = (quiet) =>
    document.querySelector("[data-testid=stApp]")?.dataset.testScriptState === "notRunning" &&
    !document.querySelector("[data-testid^=stSkeleton], [data-testid=stSpinner], [data-stale=true]") &&
    performance.now() - changed > quiet

  // The time of the next click, of the pin that follows it, and how long the page went on changing.
  const awaitClick = (token, pinned) => {
    const click = (window.npt.click = {})
    window.addEventListener("click", ({ timeStamp, clientX, clientY }) => {
      click.at = timeStamp
      // The strip may scroll under the pointer to show a token whole, so the token says which it is, not its place.
      const at = roots().map((root) => root.elementFromPoint(clientX, clientY)).find((element) => element?.matches(token))
      eachFrame(() => {
        const everywhere = roots().filter((root) => root.querySelector(token))
          .every((root) => root.querySelector(pinned)?.dataset.token === at?.dataset.token)
        if (everywhere) afterPaint((now) => (click.pin = now - click.at))
        return everywhere
      })
    }, { capture: true, once: true })
  }
  const clicked = () => ({ pin: window.npt.click.pin, drawn: changed - window.npt.click.at })

  // Middles of the tokens in sight that are not pinned.
  const targets = (token) =>
    all(token).filter((button) => button.getAttribute("aria-pressed") !== "true").map((button) => {
      const { left, top, width, height } = button.getBoundingClientRect()
      return { x: left + width / 2, y: top + height / 2, button }
    }).filter(({ x, y, button }) => button.getRootNode().elementFromPoint(x, y) === button).map(({ x, y }) => ({ x, y }))

  const scroller = (token) => {
    let element = all(token)[0]
    while (element && !(element.scrollHeight > element.clientHeight + 1 && getComputedStyle(element).overflowY !== "visible"))
      element = element.parentElement
    return element
  }
  const scrollTo = (token, share) => {
    const box = scroller(token)
    if (box) box.scrollTop = share * (box.scrollHeight - box.clientHeight)
  }
  // Milliseconds between frames while the strip scrolls by so many pixels in each.
  const scrolled = (token, frames, step) => new Promise((resolve) => {
    const box = scroller(token)
    const times = []
    box.scrollTop = 0
    eachFrame(() => {
      times.push(performance.now())
      box.scrollTop += step
      if (times.length <= frames) return false
      resolve(times.slice(1).map((time, i) => time - times[i]))
      return true
    })
  })

  // Milliseconds from the next click to another page's answer.
  const awaitPage = (title, heading, answer) => {
    const turn = (window.npt.turn = {})
    const before = first(answer)?.textContent
    window.addEventListener("click", ({ timeStamp }) => {
      eachFrame(() => {
        const text = first(answer)?.textContent
        // What is drawn in a component has no text outside it.
        const isThere = first(heading)?.textContent.startsWith(title) && text !== undefined && (text === "" || text !== before)
        if (isThere) turn.answer = performance.now() - timeStamp
        return isThere
      })
    }, { capture: true, once: true })
  }

  window.npt = { roots, all, seen, watch, isAtRest, awaitClick, clicked, targets, scrollTo, scrolled, awaitPage }
})()
