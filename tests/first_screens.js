// Faults that a page shows now; injected after benchmarks/onscreen.js. Each is {selector, text, numbers}.
(() => {
  const shifts = []
  new PerformanceObserver((list) => {
    for (const { value, hadRecentInput, startTime, sources } of list.getEntries())
      if (!hadRecentInput && !(sources.length && sources.every(isFrame))) shifts.push({ value, startTime, moved: sources.map(moved) })
  }).observe({ type: "layout-shift", buffered: true })

  // Streamlit moves the main part aside when its sidebar appears, in an empty app too (0.26 at 1280 × 720).
  const isFrame = ({ node, previousRect, currentRect }) =>
    node?.nodeType === 1 && previousRect.top === currentRect.top &&
    (node.querySelector("[data-testid=stMainBlockContainer]") || node.matches("[data-testid=stMainBlockContainer]"))

  const moved = ({ node, previousRect, currentRect }) => ({
    selector: node ? named(node.nodeType === 1 ? node : node.parentElement) : "removed",
    from: Math.round(previousRect.top), to: Math.round(currentRect.top),
    fromLeft: Math.round(previousRect.left), toLeft: Math.round(currentRect.left),
    area: currentRect.width * currentRect.height,
  })

  const above = (element) => element.parentElement ?? element.getRootNode().host ?? null
  const ancestors = function* (element) {
    for (let each = element; each; each = above(each)) yield each
  }

  // A short way to an element that a person can follow: up to two named ancestors and the element.
  const mark = (element) => {
    const key = [...element.classList].find((name) => /^(st-key-|npt-|js-plotly)/.test(name))
    if (key) return `.${key}`
    if (element.dataset?.testid) return `[data-testid=${element.dataset.testid}]`
    return /^[a-z][\w-]*$/i.test(element.id) && !element.id.startsWith("react-aria") ? `#${element.id}` : null
  }
  const named = (element) => {
    const marks = []
    for (const each of ancestors(above(element))) {
      if (marks.length === 2) break
      if (mark(each)) marks.unshift(mark(each))
      if (marks[0]?.startsWith(".st-key")) break
    }
    const own = [...element.classList].filter((name) => !/emotion|^e[a-z0-9]{8,}|^st-[a-z0-9]{2}$/.test(name))
    return [...marks, mark(element) ?? [element.tagName.toLowerCase(), ...own].join(".")].join(" ")
  }

  const clips = (element) => {
    const { overflowX, overflowY } = getComputedStyle(element)
    return overflowX !== "visible" || overflowY !== "visible"
  }
  // Ancestors that cut an element off, the nearest first.
  const cutting = (element) => {
    const found = []
    // What is placed absolutely is cut off only by its containing block and what is around that.
    let isAbsolute = false
    for (const each of ancestors(element)) {
      const style = getComputedStyle(each)
      const isAround = !isAbsolute || style.position !== "static" || style.transform !== "none"
      if (isAround && clips(each)) found.push(each)
      if (isAround) isAbsolute = style.position === "absolute"
      if (style.position === "fixed") break
    }
    return found
  }
  const isScrolled = (element, axis) => ["auto", "scroll"].includes(getComputedStyle(element)[`overflow${axis}`])
  const isPage = (element) => element.matches("html, body, [data-testid=stMain], [data-testid=stSidebarContent], [data-testid=stApp]")

  const isSeen = (element) =>
    element.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true }) &&
    !element.closest("[data-testid=stIconMaterial], [data-testid=stIcon]") &&
    ![...ancestors(element)].some((each) => {
      const { width, height } = each.getBoundingClientRect()
      // Text for screen readers only.
      return clips(each) && (width <= 2 || height <= 2)
    })

  // Every piece of text on the page: {element, text, box, lines}, a line being four corners.
  const texts = () => {
    const found = []
    const svg = new Set()
    for (const root of npt.roots()) {
      const walker = document.createTreeWalker(root.body ?? root, NodeFilter.SHOW_TEXT)
      while (walker.nextNode()) {
        const node = walker.currentNode
        const element = node.parentElement
        if (!node.data.trim() || !element || !isSeen(element)) continue
        const drawn = element.closest("text")
        if (drawn) {
          if (!svg.has(drawn)) found.push(svgText(drawn))
          svg.add(drawn)
          continue
        }
        const range = document.createRange()
        range.selectNodeContents(node)
        const lines = [...range.getClientRects()].filter((line) => line.width > 1 && line.height > 1)
        if (lines.length)
          found.push({ element, text: node.data.trim(), box: range.getBoundingClientRect(), lines: lines.map(corners) })
      }
    }
    return found
  }
  // Shrunk: what only touches does not overlap, and a line's box is higher than its letters.
  const corners = ({ left, top, width, height }) => {
    const [x, y] = [Math.min(1.5, width / 4), height * 0.2]
    return [[left + x, top + y], [left + width - x, top + y], [left + width - x, top + height - y], [left + x, top + height - y]]
  }
  const svgText = (element) => {
    const { x, y, width, height } = element.getBBox()
    const matrix = element.getScreenCTM()
    const line = corners({ left: x, top: y, width, height }).map(([px, py]) => {
      const point = new DOMPoint(px, py).matrixTransform(matrix)
      return [point.x, point.y]
    })
    return { element, text: element.textContent.trim(), box: element.getBoundingClientRect(), lines: [line] }
  }

  const round = (numbers) => Object.fromEntries(Object.entries(numbers).map(([name, value]) => [name, Math.round(value)]))
  const fault = ({ element, text }, numbers) => ({ selector: named(element), text: text.slice(0, 120), numbers: round(numbers) })

  const truncated = () => {
    const faults = []
    for (const each of texts()) {
      const { box } = each
      const cutter = cutting(each.element).find((by) => {
        const inside = by.getBoundingClientRect()
        const isIn = box.left < inside.right && box.right > inside.left && box.top < inside.bottom && box.bottom > inside.top
        const beyondX = box.right > inside.right + 1 || box.left < inside.left - 1
        const beyondY = Math.max(box.bottom - inside.bottom, inside.top - box.top) > 0.3 * Math.min(box.height, 20)
        each.cut = isIn && ((beyondX && !isScrolled(by, "X") && "width") || (beyondY && !isScrolled(by, "Y") && "height"))
        return each.cut || !isIn || (beyondX && isScrolled(by, "X")) || (beyondY && isScrolled(by, "Y"))
      })
      if (!cutter || !each.cut) continue
      const inside = cutter.getBoundingClientRect()
      const ends = each.cut === "width" ? ["left", "right"] : ["top", "bottom"]
      const beyond = Math.max(inside[ends[0]] - box[ends[0]], box[ends[1]] - inside[ends[1]])
      faults.push(fault(each, { [each.cut]: box[each.cut], available: inside[each.cut], beyond: Math.ceil(beyond) }))
    }
    for (const element of npt.all("input:not([type=checkbox], [type=radio], [type=range], [type=file], [type=hidden])"))
      if (isSeen(element) && element.scrollWidth > element.clientWidth + 1)
        faults.push(fault({ element, text: element.value }, { width: element.scrollWidth, available: element.clientWidth }))
    return faults
  }

  const overlapping = () => {
    const lines = texts().flatMap((each) => {
      const cutters = cutting(each.element).filter((by) => !isPage(by)).map((by) => by.getBoundingClientRect())
      const layer = [...ancestors(each.element)].find((a) => ["fixed", "sticky"].includes(getComputedStyle(a).position))
      return each.lines.filter((line) => cutters.every((by) => isInside(middle(line), by))).map((line) => ({
        ...each, line, layer, left: Math.min(...line.map(([x]) => x)), right: Math.max(...line.map(([x]) => x)),
      }))
    }).sort((a, b) => a.left - b.left)
    const faults = []
    lines.forEach((a, i) => {
      for (let j = i + 1; j < lines.length && lines[j].left < a.right; j++) {
        const b = lines[j]
        if (a.element === b.element || a.layer !== b.layer || !meet(a.line, b.line)) continue
        const [p, q] = [a.box, b.box]
        faults.push({ ...fault(a, {
          x: Math.max(p.left, q.left), y: Math.max(p.top, q.top),
          width: Math.min(p.right, q.right) - Math.max(p.left, q.left),
          height: Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top),
        }), over: b.text.slice(0, 120), overSelector: named(b.element) })
      }
    })
    return faults
  }
  const middle = (line) => [0, 1].map((axis) => line.reduce((sum, corner) => sum + corner[axis], 0) / 4)
  const isInside = ([x, y], { left, right, top, bottom }) => left <= x && x <= right && top <= y && y <= bottom
  // Convex four-sided figures that no line separates.
  const meet = (a, b) => ![a, b].some((figure) => figure.some(([x, y], i) => {
    const [nextX, nextY] = figure[(i + 1) % 4]
    const [normalX, normalY] = [nextY - y, x - nextX]
    const along = (of) => of.map(([px, py]) => px * normalX + py * normalY)
    return Math.max(...along(a)) <= Math.min(...along(b)) || Math.max(...along(b)) <= Math.min(...along(a))
  }))

  // Which of the marked parts are missing or not wholly on the first screen.
  const outOfView = (required, marked) => {
    const faults = required.filter((selector) => !npt.all(selector).some(isSeen)).map((selector) => ({
      selector, text: "not on the page", numbers: {},
    }))
    for (const selector of marked)
      for (const element of npt.all(selector).filter(isSeen).slice(0, 1)) {
        const { left, right, top, bottom } = element.getBoundingClientRect()
        if (left < -1 || top < -1 || right > innerWidth + 1 || bottom > innerHeight + 1)
          faults.push({ selector, text: "not wholly on the first screen",
            numbers: round({ left, right, top, bottom, screenWidth: innerWidth, screenHeight: innerHeight }) })
      }
    return faults
  }

  const shifted = (most) => {
    const sum = shifts.reduce((total, { value }) => total + value, 0)
    if (sum <= most) return []
    return shifts.filter(({ value }) => value > 0.01).map(({ value, startTime, moved }) => {
      const { selector, from, to, fromLeft, toLeft } = moved.sort((a, b) => b.area - a.area)[0] ?? { selector: "unknown" }
      return { selector, text: `${value.toFixed(3)} of ${sum.toFixed(3)}`,
        numbers: { after: Math.round(startTime), from, to, fromLeft, toLeft } }
    })
  }

  // One fault for each rule of axe, with the elements that break it.
  const inaccessible = async (options) => {
    const { violations } = await axe.run(document, { ...options, elementRef: true })
    return violations.map(({ id, impact, nodes }) => {
      const { any, all, none } = nodes[0]
      return {
        selector: [...new Set(nodes.map(({ element }) => named(element)))].slice(0, 4).join(" | "),
        text: `${id} (${impact}): ${[...any, ...all, ...none][0]?.message ?? ""}`,
        numbers: { elements: nodes.length },
      }
    })
  }

  window.nptFaults = { truncated, overlapping, outOfView, shifted, inaccessible }
})()
