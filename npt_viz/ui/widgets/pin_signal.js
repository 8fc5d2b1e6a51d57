// Tells the token views of the page what the server has pinned, and again whenever a view asks.

export default function ({ data, parentElement }) {
  const host = parentElement.querySelector(".npt-signal")
  const tell = () => window.dispatchEvent(new CustomEvent("npt-pin", { detail: { ...host.said, from: "server" } }))
  host.said = data
  if (!host.end) {
    window.addEventListener("npt-pin-wanted", tell)
    host.end = () => {
      window.removeEventListener("npt-pin-wanted", tell)
      host.end = undefined
    }
  }
  tell()
  return host.end
}
