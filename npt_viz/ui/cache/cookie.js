// Gives this browser its id, or tells the server the one it has: two tabs may be opened at once.
// Where cookies are blocked nothing is told, and the session stays its own owner.

const NAME = "npt_viz_browser"
const LASTS = 400 * 24 * 3600

const present = () => {
  const found = document.cookie.split("; ").find((pair) => pair.startsWith(`${NAME}=`))
  const id = found?.slice(NAME.length + 1) ?? ""
  return /^[0-9a-f]{32}$/.test(id) ? id : null
}

export default function ({ data, setTriggerValue }) {
  const secure = location.protocol === "https:" ? "; Secure" : ""
  document.cookie = `${NAME}=${present() ?? data.id}; path=/; max-age=${LASTS}; SameSite=Strict${secure}`
  const id = present()
  if (id) setTriggerValue("id", id)
}
