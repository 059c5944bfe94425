// What both pages of a review share. Each page defines TOKEN, HINT, letters and show(item), and ends with openNext().
const $ = id => document.getElementById(id);
let item = null, busy = false;

function say(text, wrong) { $("message").textContent = text; $("message").className = wrong ? "wrong" : ""; }

async function ask(path, body) {
  const reply = await fetch(path, body && {method: "POST", body: JSON.stringify(body),
    headers: {"Content-Type": "application/json", "X-Token": TOKEN}});
  const answer = await reply.json();
  if (!reply.ok) throw new Error(answer.error || reply.statusText);
  return answer;
}

async function act(work, text) {
  if (busy) return;
  busy = true;
  try { show(await work()); if (item.index !== null) say(text || HINT); }
  catch (error) { say(error.message || "The review was stopped. Start it again.", true); }
  finally { busy = false; }
}

function showFacts(facts) {
  $("facts").replaceChildren(...Object.entries(facts).flatMap(([term, text]) => {
    const dt = document.createElement("dt"), dd = document.createElement("dd");
    dt.textContent = term; dd.textContent = text;
    return [dt, dd];
  }));
}

const go = index => act(() => ask(`item/${index}`));
const back = () => item.index === null ? go(item.total - 1) : item.index > 0 && go(item.index - 1);
const skip = () => item.index !== null && item.index + 1 < item.total && go(item.index + 1);
const openNext = () => act(() => ask("item"));

$("back").onclick = back; $("skip").onclick = skip; $("open").onclick = openNext;

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || !item || event.isComposing) return;
  const field = event.target.tagName === "INPUT" ? event.target.id : "";
  if (event.key === "Enter" && event.target.tagName !== "BUTTON") { event.preventDefault(); return $("save").onclick(); }
  if (event.key === "Escape" && item.index !== null) { event.preventDefault(); return show(item); }
  const key = event.key.toLowerCase();
  if (field !== "note" && key in letters && (item.index !== null || key === "n")) { event.preventDefault(); return letters[key](); }
  if (field) return;
  if (event.key === "ArrowLeft") return back();
  if (event.key === "ArrowRight") return skip();
  if (/^[0-9]$/.test(event.key)) { $("age").focus(); $("age").select(); }
});
