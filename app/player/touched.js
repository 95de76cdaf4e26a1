// Between the player, wherever it is mounted, and the server: what the server says is handed on as an event, and kept for
// a player that is mounted later; what the player asks is sent from here, so that the arrays of the run stay where they are.
let ask = null;

export default function ({ data, setStateValue }) {
  window.removeEventListener("cillab-ask", ask);
  ask = (event) => setStateValue("ask", event.detail);
  window.addEventListener("cillab-ask", ask);
  window.cillabTouched = data;
  window.dispatchEvent(new CustomEvent("cillab-touched", { detail: data }));
  return () => window.removeEventListener("cillab-ask", ask);
}
