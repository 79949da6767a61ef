/* The chat page of both examples. One WebSocket to /chat/<room>/; every frame is JSON text with a "type".

   page -> server
     hello    {name}               who I am; again with another name: I changed it
     message  {text, ref}          ref: chosen here, comes back with the message
     typing   {}                   at most every 2 s while text is being written
     here     {}                   I am still here: every 30 s, and soon after someone joined

   server -> this page
     welcome  {id, name}           the answer to hello; id names this connection

   server -> everyone in the room, the sender too
     join, here, typing, left  {id, name}
     message  {id, name, text, ref, at, process}     at: milliseconds since 1970; process: who handled it

   Nobody keeps a list of who is here: pages answer a join with "here", and forget who was not heard of for 100 s.
   A layer delivers at most once, so this page says "hello" and "message" again until it sees the answer, and shows
   a ref once however often it comes. */
"use strict";

const HELLO_AGAIN = 3000, MESSAGE_AGAIN = 4000, TYPING_EVERY = 2000, TYPING_SHOWN = 3500;
const HERE_EVERY = 30000, FORGOTTEN_AFTER = 100000, SILENT_AFTER = 3000, DEAD_AFTER = 60000;
const BACKOFF_FIRST = 500, BACKOFF_MOST = 30000, HANDSHAKE_MOST = 10000;

const $ = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
const slug = (text) => text.trim().toLowerCase().replace(/[^a-z0-9_-]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 40);
const random = () => Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, "0")).join("");

const room = slug(query.get("room") || localStorage.getItem("chat.room") || "") || "lobby";
// ?name= and a name changed in this tab count for this tab; a new tab begins with the name used last.
let myName = query.get("name") || sessionStorage.getItem("chat.name") || localStorage.getItem("chat.name") || "";

/* ------------------------------------------------------------------ the connection */

const link = {
  socket: null,
  state: "",            // connecting, connected, silent (open, but nothing is answered), waiting, offline
  attempt: 0,
  retryAt: 0,
  openedAt: 0,
  askedAt: 0,           // when we first sent something that is not answered yet; 0: nothing is outstanding
  welcomed: false,
  timer: 0,

  open() {
    clearTimeout(this.timer);
    this.openedAt = Date.now();
    this.show("connecting");
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = this.socket = new WebSocket(`${scheme}//${location.host}/chat/${room}/`);
    socket.onopen = () => this.hello();
    socket.onclose = () => this.lost();
    socket.onmessage = (event) => {
      this.askedAt = 0;
      received(JSON.parse(event.data));
    };
  },

  send(frame) {
    if (this.socket?.readyState !== WebSocket.OPEN) return false;
    this.askedAt ||= Date.now();
    this.socket.send(JSON.stringify(frame));
    return true;
  },

  hello() {
    this.helloAt = Date.now();
    this.send({type: "hello", name: myName});
  },

  welcome() {
    this.welcomed = true;
    this.attempt = 0;
    this.show("connected");
  },

  // Exponential back-off; the random half keeps many pages from coming back in the same moment.
  lost() {
    if (this.socket) this.socket.onclose = this.socket.onmessage = this.socket.onopen = null;
    this.socket?.close();
    this.socket = null;
    this.askedAt = 0;
    if (this.welcomed) people.lost();
    this.welcomed = false;
    const most = Math.min(BACKOFF_MOST, BACKOFF_FIRST * 2 ** this.attempt++);
    const delay = most / 2 + Math.random() * most / 2;
    this.retryAt = Date.now() + delay;
    this.timer = setTimeout(() => this.open(), delay);
    this.show(navigator.onLine ? "waiting" : "offline");
  },

  retryNow() {
    if (!this.socket) this.open();
  },

  tick(now) {
    if (this.socket?.readyState === WebSocket.CONNECTING && now - this.openedAt > HANDSHAKE_MOST) this.lost();
    else if (this.askedAt && now - this.askedAt > DEAD_AFTER) this.lost();
    else if (this.socket?.readyState === WebSocket.OPEN && !this.welcomed && now - this.helloAt > HELLO_AGAIN) this.hello();
    if (this.welcomed) this.show(this.askedAt && now - this.askedAt > SILENT_AFTER ? "silent" : "connected");
    if (!this.socket) this.show(navigator.onLine ? "waiting" : "offline");
  },

  show(state) {
    const wait = Math.max(1, Math.ceil((this.retryAt - Date.now()) / 1000));
    $("link-text").textContent = {
      connecting: "Connecting…",
      connected: "Connected",
      silent: "Connected, waiting for an answer",
      waiting: `Reconnecting in ${wait} s`,
      offline: `Offline, next try in ${wait} s`,
    }[state];
    if (state === this.state) return;
    $("link").dataset.state = state;
    $("retry").hidden = state !== "waiting" && state !== "offline";
    const lost = ["waiting", "offline"].includes(state) && !["waiting", "offline", "connecting"].includes(this.state);
    if (lost) $("announce").textContent = "Connection lost. What you write is kept and sent later.";
    if (state === "connected" && this.state !== "silent") $("announce").textContent = "Connected";
    this.state = state;
  },
};

/* ------------------------------------------------------------------ who is here */

const people = {
  me: "",
  here: new Map(),          // id -> {name, seen, typing}
  before: new Set(),        // names that were here when the connection was lost: no news when they are back
  hereAt: 0,
  answer: 0,

  welcome(frame) {
    this.me = frame.id;
    this.here.clear();
    this.seen(frame);
  },

  seen({id, name}) {
    const known = this.here.get(id);
    this.here.set(id, {typing: 0, ...known, name, seen: Date.now()});
    if (known?.name !== name) this.show();
    return !known;
  },

  joined(frame) {
    if (this.seen(frame) && frame.id !== this.me && !this.before.delete(frame.name)) log.note(`${frame.name} joined`);
    if (frame.id === this.me || this.answer) return;
    // Many pages hear the same join: each waits a moment, longer the more there are, and answers at most every 2 s.
    const wait = Math.max(100, 2000 - (Date.now() - this.hereAt)) + Math.random() * 20 * this.here.size;
    this.answer = setTimeout(() => this.announce(), wait);
  },

  left({id, name}) {
    if (this.here.delete(id)) log.note(`${name} left`);
    this.show();
  },

  announce() {
    clearTimeout(this.answer);
    this.answer = 0;
    this.hereAt = Date.now();
    if (link.welcomed) link.send({type: "here"});
  },

  lost() {
    this.before = new Set([...this.here.values()].map((person) => person.name));
    this.here = new Map([[this.me, {name: myName, seen: Date.now(), typing: 0}]]);
    this.show();
  },

  tick(now) {
    if (link.welcomed && now - this.hereAt > HERE_EVERY) this.announce();
    for (const [id, person] of this.here) {
      if (id !== this.me && now - person.seen > FORGOTTEN_AFTER) this.left({id, name: person.name});
    }
    this.showTyping(now);
  },

  typing(frame) {
    this.seen(frame);
    if (frame.id !== this.me) this.here.get(frame.id).typing = Date.now() + TYPING_SHOWN;
    this.showTyping(Date.now());
  },

  showTyping(now) {
    const names = [...this.here.values()].filter((person) => person.typing > now).map((person) => person.name);
    const text = names.length > 2 ? "Several people are typing…"
      : names.length === 2 ? `${names[0]} and ${names[1]} are typing…`
      : names.length ? `${names[0]} is typing…` : "";
    if ($("typing").textContent !== text) $("typing").textContent = text;
  },

  show() {
    const order = [...this.here].sort(([a, p], [b, q]) => (b === this.me) - (a === this.me) || p.name.localeCompare(q.name));
    $("people").replaceChildren(...order.map(([id, person]) => {
      const label = element("span", {textContent: person.name});
      if (id === this.me) label.append(" ", element("small", {textContent: "(you)"}));
      const item = element("li", {}, face(person.name), label);
      item.dataset.name = person.name;
      return item;
    }));
    $("people").classList.toggle("stale", !link.welcomed);
    $("count").textContent = this.here.size;
  },
};

/* ------------------------------------------------------------------ messages */

const outbox = {
  key: `chat.outbox.${room}`,
  waiting: new Map(),       // ref -> {text, at, sent}

  load() {
    for (const [ref, {text, at}] of JSON.parse(sessionStorage.getItem(this.key) || "[]")) this.put(ref, text, at);
  },

  put(ref, text, at) {
    this.waiting.set(ref, {text, at, sent: 0});
    log.message({ref, text, at, name: myName, mine: true, pending: true});
    this.flush();
  },

  flush(now = Date.now()) {
    for (const [ref, message] of this.waiting) {
      if (!link.welcomed || now - message.sent < MESSAGE_AGAIN) continue;
      if (link.send({type: "message", text: message.text, ref})) message.sent = now;
    }
    this.save();
  },

  delivered(ref) {
    const message = this.waiting.get(ref);
    if (message?.sent) $("trip").textContent = `${Math.max(1, Date.now() - message.sent)} ms`;
    this.waiting.delete(ref);
    this.save();
  },

  unsent() {
    for (const message of this.waiting.values()) message.sent = 0;
  },

  save() {
    sessionStorage.setItem(this.key, JSON.stringify([...this.waiting]));
  },
};

const log = {
  shown: new Set(),         // refs
  pending: new Map(),       // ref -> its element
  day: "",
  last: null,               // the message above: {name, at}
  unread: 0,

  message({id, ref, text, at, name, mine, pending}) {
    if (this.shown.has(ref)) return;
    const atBottom = this.atBottom();
    this.pending.get(ref)?.remove();
    this.pending.delete(ref);
    const when = new Date(at);
    if (!pending) {
      this.shown.add(ref);
      this.newDay(when);
    }
    const follows = !pending && this.last?.name === name && at - this.last.at < 300000;
    const time = element("time", {
      dateTime: when.toISOString(),
      title: when.toLocaleString(),
      textContent: pending ? "not sent yet" : when.toLocaleTimeString([], {hour: "2-digit", minute: "2-digit"}),
    });
    const item = element("li", {className: "message"},
      element("div", {className: "by", textContent: name}), face(name),
      element("div", {className: "row"}, element("div", {className: "bubble", textContent: text}), time));
    item.classList.toggle("mine", Boolean(mine));
    item.classList.toggle("pending", Boolean(pending));
    item.classList.toggle("follows", follows);
    item.dataset.ref = ref;
    if (pending) {
      this.pending.set(ref, item);
      $("log").append(item);
    } else {
      this.insert(item);
      this.last = {name, at};
      if (document.hidden && !mine) this.unread += 1;
    }
    this.follow(atBottom || mine);
  },

  note(text) {
    const atBottom = this.atBottom();
    this.insert(element("li", {className: "note", textContent: text}));
    this.last = null;
    this.follow(atBottom);
  },

  // What is not sent yet stays below what is.
  insert(item) {
    $("log").insertBefore(item, $("log").querySelector(".pending"));
  },

  newDay(when) {
    if (when.toDateString() === this.day) return;
    this.day = when.toDateString();
    this.last = null;
    const ago = (days) => new Date(Date.now() - days * 86400000).toDateString();
    const text = this.day === ago(0) ? "Today" : this.day === ago(1) ? "Yesterday"
      : when.toLocaleDateString([], {weekday: "long", day: "numeric", month: "long"});
    this.insert(element("li", {className: "day", textContent: text, title: when.toLocaleDateString()}));
  },

  atBottom() {
    const box = $("scroll");
    return box.scrollHeight - box.scrollTop - box.clientHeight < 60;
  },

  follow(down) {
    if (down) $("scroll").scrollTop = $("scroll").scrollHeight;
    $("newer").hidden = this.atBottom();
    document.title = `${this.unread ? `(${this.unread}) ` : ""}#${room} – Chat`;
  },
};

function received(frame) {
  switch (frame.type) {
    case "welcome":
      people.welcome(frame);
      link.welcome();
      people.show();
      outbox.unsent();
      outbox.flush();
      break;
    case "join": people.joined(frame); break;
    case "here": people.seen(frame); break;
    case "typing": people.typing(frame); break;
    case "left": people.left(frame); break;
    case "message": {
      people.seen(frame);
      people.here.get(frame.id).typing = 0;
      people.showTyping(Date.now());
      const mine = outbox.waiting.has(frame.ref) || frame.id === people.me;
      outbox.delivered(frame.ref);
      log.message({...frame, mine});
      $("process").textContent = `${$("process").dataset.role} ${frame.process}`;
      break;
    }
  }
}

/* ------------------------------------------------------------------ the page */

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function face(name) {
  const words = name.trim().split(/\s+/);
  const letters = (words.length > 1 ? [words[0], words.at(-1)] : [name.trim()]).map((word) => [...word][0]).join("");
  const made = element("span", {className: "face", textContent: letters.toUpperCase(), ariaHidden: "true"});
  let hue = 0;
  for (const letter of name) hue = (hue * 31 + letter.codePointAt(0)) % 360;
  made.style.setProperty("--hue", hue);
  return made;
}

function askWho() {
  $("who-title").textContent = myName ? "You and the room" : "Join the chat";
  $("who-ok").textContent = myName ? "Save" : "Join";
  $("who-cancel").hidden = !myName;
  $("who-name").value = myName;
  $("who-room").value = room;
  $("who").showModal();
}

function becomeKnown(newName, newRoom) {
  myName = newName;
  sessionStorage.setItem("chat.name", myName);
  localStorage.setItem("chat.name", myName);
  localStorage.setItem("chat.room", newRoom);
  if (newRoom !== room) {
    location.assign(`?${new URLSearchParams({room: newRoom})}`);
    return;
  }
  history.replaceState(null, "", `?${new URLSearchParams({room})}`);
  if (link.state) {
    if (link.welcomed) link.hello();
  } else {
    start();
  }
}

function start() {
  outbox.load();
  link.open();
  setInterval(() => {
    const now = Date.now();
    link.tick(now);
    people.tick(now);
    outbox.flush(now);
  }, 1000);
  $("text").focus();
}

let typedAt = 0;
$("text").addEventListener("input", () => {
  if (!$("text").value.trim() || !link.welcomed || Date.now() - typedAt < TYPING_EVERY) return;
  typedAt = Date.now();
  link.send({type: "typing"});
});
$("text").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("composer").requestSubmit();
});
$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (text) outbox.put(random(), text, Date.now());
  $("text").value = "";
  $("text").focus();
  typedAt = 0;
});
// A phone's keyboard makes the list smaller: one who read its end still does. Only a reader's own scrolling leaves it.
const list = {width: 0, height: 0};
$("scroll").addEventListener("scroll", () => {
  if (list.width === $("scroll").clientWidth && list.height === $("scroll").clientHeight) $("newer").hidden = log.atBottom();
});
new ResizeObserver(() => {
  [list.width, list.height] = [$("scroll").clientWidth, $("scroll").clientHeight];
  log.follow($("newer").hidden);
}).observe($("scroll"));
$("newer").addEventListener("click", () => log.follow(true));
$("retry").addEventListener("click", () => link.retryNow());
$("settings").addEventListener("click", askWho);
$("who-cancel").addEventListener("click", () => $("who").close());
$("who").addEventListener("close", () => $("text").focus());
$("who").addEventListener("cancel", (event) => { if (!myName) event.preventDefault(); });
$("who").querySelector("form").addEventListener("submit", (event) => {
  const chosen = $("who-name").value.trim();
  if (!chosen) return event.preventDefault();
  becomeKnown(chosen, slug($("who-room").value) || "lobby");
});
$("theme").addEventListener("click", () => {
  const dark = (document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("chat.theme", document.documentElement.dataset.theme);
});
addEventListener("online", () => link.retryNow());
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  log.unread = 0;
  log.follow(false);
  if (link.state) link.retryNow();
});

const theme = localStorage.getItem("chat.theme");
if (theme) document.documentElement.dataset.theme = theme;
const narrow = matchMedia("(max-width: 44rem)");
narrow.onchange = () => { $("people-box").open = !narrow.matches; };
narrow.onchange();
$("room").textContent = room;
$("second").href = `?${new URLSearchParams({room, name: "Second Me"})}`;
log.follow(false);
history.replaceState(null, "", `?${new URLSearchParams({room, ...(query.get("name") && {name: query.get("name")})})}`);
if (myName) start();
else askWho();
