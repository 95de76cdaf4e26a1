// The sprites of a run, once on a page: every grid that shows some of them asks for `--atlas-TOKEN`.

const held = new Map(); // token -> its address, and how many hold it

// An address of a few letters: as text in every button the atlas would be a megabyte 240 times.
function address(url) {
  const [head, body] = url.split(","), raw = atob(body), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return URL.createObjectURL(new Blob([bytes], { type: head.slice("data:".length).split(";")[0] }));
}

function take(token, url) {
  const there = held.get(token) ?? { address: address(url), holders: 0 };
  there.holders++;
  held.set(token, there);
  document.documentElement.style.setProperty(`--atlas-${token}`, `url(${there.address})`);
}

function release(token) {
  const there = held.get(token);
  if (!there || --there.holders) return;
  URL.revokeObjectURL(there.address);
  held.delete(token);
  document.documentElement.style.removeProperty(`--atlas-${token}`);
}

const holds = new WeakMap();

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector(".atlas"), before = holds.get(root);
  if (before !== data.token) {
    take(data.token, data.url);
    holds.set(root, data.token);
    if (before) release(before);
  }
  return () => {
    release(holds.get(root));
    holds.delete(root);
  };
}
