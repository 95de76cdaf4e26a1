// Hands what the server says about touching to the player, wherever it is mounted: as an event, and kept for one that is
// mounted later.
export default function ({ data }) {
  window.cillabTouched = data;
  window.dispatchEvent(new CustomEvent("cillab-touched", { detail: data }));
}
