// Prompt box: the strip becomes the text, and back. A draft stays in this browser tab until it is inspected.

function promptBox(view) {
  const tools = view.find(".tools")
  const made = {
    editor: view.find(".editor"),
    edit: toolButton("edit", "✎ Edit", "Edit the prompt (key e in the strip)"),
    inspect: toolButton("inspect", "Inspect", "Inspect this prompt (Ctrl or ⌘ + Enter)"),
    cancel: toolButton("cancel", "Cancel", "Back to the strip; the draft is kept in this tab (Esc)"),
    examples: choice("examples", "Take an example"),
    bos: choice("bos", "Beginning-of-sequence token; auto: as the model's tokenizer does it by itself"),
    chat: element("input", ""),
    note: element("span", "note"),
    resume: toolButton("resume", "draft kept", "Go on with the draft"),
    drop: toolButton("drop", "✕", "Drop the draft"),
  }
  made.drop.setAttribute("aria-label", "drop the draft")
  made.chat.type = "checkbox"
  made.chatLabel = element("label", "chat")
  made.chatLabel.title = "Wrap the prompt in the model's chat template"
  made.chatLabel.append(made.chat, " Chat")
  for (const name of ["auto", "yes", "no"]) made.bos.append(option(name, `BOS: ${name}`))
  made.note.setAttribute("role", "status")
  tools.append(made.edit, made.inspect, made.cancel, made.examples, made.bos, made.chatLabel, made.note, made.resume, made.drop)
  view.listen(made.edit, "click", () => beginEdit(view))
  view.listen(made.resume, "click", () => beginEdit(view))
  view.listen(made.drop, "click", () => (keepDraft(view, null), showTools(view)))
  view.listen(made.inspect, "click", () => ask(view, draftIn(view)))
  view.listen(made.cancel, "click", () => endEdit(view))
  view.listen(made.examples, "change", () => takeExample(view))
  view.listen(made.examples, "keydown", (event) => openMenu(made.examples, event))
  for (const field of [made.bos, made.chat]) view.listen(field, "change", () => edited(view))
  view.listen(made.editor, "input", () => edited(view))
  view.listen(made.editor, "keydown", (event) => editorKey(view, event))
  return made
}

function toolButton(name, text, title) {
  const button = element("button", `tool ${name}`, text)
  button.type = "button"
  button.title = title
  return button
}

function choice(name, title) {
  const select = element("select", `tool ${name}`)
  select.title = title
  select.setAttribute("aria-label", title)
  return select
}

function option(value, text) {
  const made = element("option", "", text)
  made.value = value
  return made
}

function takePrompt(view) {
  const { prompt } = view.data
  const { examples } = view.box
  view.find(".tools").hidden = !prompt
  if (!prompt) return showTools(view)
  examples.replaceChildren(option("", "Examples"), ...prompt.examples.map(([name]) => option(name, name)))
  view.waiting = null
  const isTyping = view.isEditing && view.find(".editor").value !== view.askedText
  if (!isTyping) view.isEditing = false
  // Without tokens there is nothing to show but the text.
  if (!view.data.glyphs.length) beginEdit(view)
  else showTools(view)
}

const draftName = (view) => `npt-draft ${view.data.name}`

function draftOf(view) {
  try {
    return JSON.parse(sessionStorage.getItem(draftName(view)))
  } catch {
    return null
  }
}

// A browser may refuse storage; the draft then lasts as long as the box is open.
function keepDraft(view, draft) {
  try {
    if (draft) sessionStorage.setItem(draftName(view), JSON.stringify(draft))
    else sessionStorage.removeItem(draftName(view))
  } catch {}
}

function beginEdit(view) {
  const { editor, bos, chat } = view.box
  const { prompt } = view.data
  if (!prompt || view.isEditing) return
  view.waiting = null
  const draft = draftOf(view) ?? { text: prompt.text, chat: prompt.chat, bos: prompt.bos }
  hover(view, -1)
  const height = view.strip.box.offsetHeight
  view.isEditing = true
  editor.value = draft.text
  chat.checked = draft.chat
  bos.value = draft.bos
  editor.style.height = `${height}px`
  showTools(view)
  editor.focus({ preventScroll: true })
  editor.setSelectionRange(editor.value.length, editor.value.length)
}

function endEdit(view) {
  if (!view.data.glyphs.length) return
  view.isEditing = false
  showTools(view)
  view.strip.top = view.strip.box.scrollTop
  reveal(view, view.pin.token)
  focusStrip(view)
}

const draftIn = (view) => ({ text: view.box.editor.value, chat: view.box.chat.checked, bos: view.box.bos.value })

function isEdited(view, draft) {
  const { text, chat, bos } = view.data.prompt
  return draft.text !== text || draft.chat !== chat || draft.bos !== bos
}

function edited(view) {
  const { bos, chat } = view.box
  // The chat template has its own beginning.
  if (chat.checked) bos.value = "auto"
  view.waiting = null
  const draft = draftIn(view)
  keepDraft(view, isEdited(view, draft) ? draft : null)
  showTools(view)
}

function ask(view, { text, chat, bos }) {
  view.waiting = stamp()
  view.askedText = text
  keepDraft(view, null)
  // Without tokens there is no strip to go back to.
  view.isEditing = !view.data.glyphs.length
  view.send("asked", { prompt: text, chat, bos, at: view.waiting })
  showTools(view)
}

// An arrow on a closed menu would choose, and so inspect, whatever comes next.
function openMenu(menu, event) {
  if (!["ArrowDown", "ArrowUp"].includes(event.key) || !menu.showPicker) return
  event.preventDefault()
  menu.showPicker()
}

function takeExample(view) {
  const { examples, editor } = view.box
  const found = view.data.prompt.examples.find(([name]) => name === examples.value)
  examples.value = ""
  if (!found) return
  if (view.isEditing) {
    editor.value = found[1]
    edited(view)
    editor.focus({ preventScroll: true })
  } else ask(view, { text: found[1], chat: view.data.prompt.chat, bos: view.data.prompt.bos })
}

function editorKey(view, event) {
  // Streamlit has keys of its own, such as r and c.
  event.stopPropagation()
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault()
    ask(view, draftIn(view))
  } else if (event.key === "Escape") {
    event.preventDefault()
    endEdit(view)
  }
}

// One place that says what is seen, from the state.
function showTools(view) {
  const { edit, inspect, cancel, examples, bos, chat, chatLabel, note, resume, drop, editor } = view.box
  const { isEditing, data } = view
  const hasStrip = data.parts.includes("strip")
  if (!data.prompt) {
    editor.hidden = true
    view.strip.box.hidden = !hasStrip
    return
  }
  for (const each of [inspect, cancel, bos, chatLabel]) each.hidden = !isEditing
  // Its room is for the tools then, so that nothing moves.
  view.find(".legend").hidden = isEditing || !data.glyphs.length
  cancel.hidden ||= !data.glyphs.length
  edit.hidden = isEditing
  examples.hidden = !data.prompt.examples.length
  bos.disabled = chat.checked
  editor.hidden = !isEditing
  view.strip.box.hidden = isEditing || !hasStrip
  const isWaiting = view.waiting !== null
  view.host.classList.toggle("waiting", isWaiting)
  const draft = isEditing ? null : draftOf(view)
  resume.hidden = drop.hidden = !draft || isWaiting
  note.textContent = isWaiting
    ? "inspecting…"
    : isEditing
      ? isEdited(view, draftIn(view)) ? "edited, Ctrl+Enter inspects" : ""
      : [data.prompt.chat ? "chat template" : "", data.prompt.bos === "auto" ? "" : `BOS: ${data.prompt.bos}`].filter(Boolean).join(" · ")
  note.classList.toggle("attention", isEditing || isWaiting)
}
