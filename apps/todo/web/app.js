// The page. It shows what it wants at once, keeps what the server says by revision, and resumes its stream by number.

const $ = (id) => document.getElementById(id);

const state = {
  user: '',
  tasks: new Map(),        // id -> task as the server has it
  gone: new Map(),         // id -> revision in which it was removed; late news must not bring it back
  wanted: new Map(),       // id -> what this page has asked for and not yet heard about
  rev: 0,                  // newest revision of the list known here
  seq: 0,                  // place in the feed
  heard: 0,                // newest revision that came through the feed
  entries: [],             // the feed, newest first
  mine: new Set(),         // revisions that this page has made
  filter: 'all',
  loaded: false,
  preferences: { theme: 'auto', hideDone: false, notify: true },
  outbox: 0,
};
const began = Date.now();

// ---- talking to the gateway ------------------------------------------------------------------------------------

class Refused extends Error {
  constructor(status, body, retryAfter) {
    const text = body?.error?.message ?? 'the server cannot be reached';
    super(`${text[0].toUpperCase()}${text.slice(1)}.`);
    this.status = status;
    this.code = body?.error?.code ?? '';
    this.current = body?.current;
    this.retryAfter = retryAfter;
  }
  get retryable() { return this.status === 0 || this.status === 503 || this.status === 502 || this.status === 504; }
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

async function once(method, path, body, key) {
  const headers = {};
  if (body !== undefined) headers['content-type'] = 'application/json';
  if (key) headers['idempotency-key'] = key;
  let response;
  try {
    response = await fetch(path, {
      method, headers, body: body === undefined ? undefined : JSON.stringify(body), signal: AbortSignal.timeout(15000),
    });
  } catch {
    throw new Refused(0, null, 1);
  }
  // `tasks` runs more than once, so it is worth telling which one it was.
  if (path.startsWith('/api/tasks')) {
    answeredBy(response.headers.get('x-todo-instance'), response.headers.get('x-todo-gateway'));
  }
  const text = await response.text();
  let json = null;
  try { json = text ? JSON.parse(text) : null; } catch { /* an error page; its status says enough */ }
  if (!response.ok) throw new Refused(response.status, json, Number(response.headers.get('retry-after')) || 1);
  return json;
}

// A change has a name, so that asking again does nothing twice. 503 says when to ask again.
async function change(method, path, body) {
  const key = crypto.randomUUID();
  for (let attempt = 0; ; attempt++) {
    try {
      const answer = await once(method, path, body, key);
      if (answer?.rev) {
        state.mine.add(answer.rev);
        state.rev = Math.max(state.rev, answer.rev);
      }
      return answer;
    } catch (error) {
      if (error.status === 401 && attempt < 3) { await session(); continue; }
      if (!error.retryable || attempt >= 3) throw error;
      await pause(error.retryAfter * 500 * (attempt + 1));
    }
  }
}

// ---- what the server says --------------------------------------------------------------------------------------

function keep(task) {
  state.rev = Math.max(state.rev, task.rev);
  if ((state.gone.get(task.id) ?? 0) >= task.rev) return;
  const known = state.tasks.get(task.id);
  if (!known || known.rev <= task.rev) state.tasks.set(task.id, task);
}

function forget(id, rev) {
  state.rev = Math.max(state.rev, rev);
  state.gone.set(id, Math.max(state.gone.get(id) ?? 0, rev));
  const known = state.tasks.get(id);
  if (known && known.rev <= rev) state.tasks.delete(id);
}

async function loadTasks() {
  const page = await once('GET', '/api/tasks');
  // Whatever was heard while the list was on its way is newer than the list.
  const listed = new Set(page.tasks.map((task) => task.id));
  for (const [id, task] of state.tasks) if (!listed.has(id) && task.rev <= page.rev) state.tasks.delete(id);
  for (const task of page.tasks) keep(task);
  state.rev = Math.max(state.rev, page.rev);
  state.loaded = true;
  render();
}

async function loadFeed() {
  const page = await once('GET', '/api/feed');
  state.seq = page.head;
  state.entries = page.entries.toReversed();
  state.heard = Math.max(0, ...page.entries.map((entry) => entry.task.rev));
  renderFeed();
}

let statsTimer;
function loadStatsSoon() {
  clearTimeout(statsTimer);
  statsTimer = setTimeout(async () => {
    try {
      const { today } = await once('GET', '/api/stats');
      const some = today.completed + today.created > 0;
      $('today').textContent = some ? `${today.completed} done today · ${today.created} added` : '';
    } catch { /* nice to have; the strip says that stats are away */ }
  }, 400);
}

function happened(entry) {
  if (entry.seq <= state.seq) return;
  state.seq = entry.seq;
  state.heard = Math.max(state.heard, entry.task.rev);
  if (entry.kind === 'task.deleted') {
    forget(entry.task.id, entry.task.rev);
  } else {
    // One's own new task may come back by the stream before the answer does.
    if (entry.kind === 'task.created') {
      for (const [id, wish] of state.wanted) {
        if (wish.create && wish.title === entry.task.title) { state.wanted.delete(id); break; }
      }
    }
    keep(entry.task);
  }
  state.entries = [entry, ...state.entries].slice(0, 40);
  render();
  renderFeed();
  mark(entry.task.id);
  loadStatsSoon();
  tell(entry);
}

const WORDS = {
  'task.created': ['+', 'Added'],
  'task.updated': ['~', 'Changed'],
  'task.completed': ['✓', 'Done'],
  'task.deleted': ['−', 'Removed'],
  'task.reminded': ['⏰', 'Reminder'],
};

// Tells what others did. One's own answer may be a moment behind one's own event.
function tell(entry) {
  if (!state.preferences.notify || entry.at < began - 1000) return;
  // Whoever asked to be reminded wants to be, in every window.
  if (entry.kind === 'task.reminded') { toast(`Reminder: ${entry.task.title}`, { name: 'news' }); return; }
  setTimeout(() => {
    if (!state.mine.has(entry.task.rev)) toast(`${WORDS[entry.kind][1]}: ${entry.task.title}`, { name: 'news' });
  }, 400);
}

// ---- the stream ------------------------------------------------------------------------------------------------

let stream;
let streamTimer;
let streamPause = 500;

function connect() {
  clearTimeout(streamTimer);
  stream?.close();
  stream = new EventSource(`/api/events?after=${state.seq}`);
  const on = (name, act) => stream.addEventListener(name, (event) => act(JSON.parse(event.data)));
  on('task', happened);
  on('status', renderStatus);
  on('live', () => { streamPause = 500; live('live'); loadStatsSoon(); });
  on('away', () => live('away'));
  on('reset', async () => {
    try {
      await loadFeed();
      await loadTasks();
    } catch { /* the stream goes on from the head; the next event or a reload shows the rest */ }
    connect();
  });
  stream.onerror = () => {
    // The browser would give up after an answer that is no stream; this never does, and keeps its place.
    stream.close();
    live('offline');
    streamTimer = setTimeout(reconnect, streamPause);
    streamPause = Math.min(streamPause * 1.6, 5000);
  };
}

async function reconnect() {
  if (!state.loaded) return start();
  // A session that has ended would refuse the stream for ever.
  try { await session(); } catch { /* the stream's own error says it */ }
  connect();
}

addEventListener('online', () => { streamPause = 500; reconnect(); });
// A page that nobody looks at for a minute lets its connection go; browsers have few per host. It catches up after.
let hiddenTimer;
document.addEventListener('visibilitychange', () => {
  clearTimeout(hiddenTimer);
  if (document.hidden) {
    hiddenTimer = setTimeout(() => { clearTimeout(streamTimer); stream?.close(); stream = null; }, 60000);
  } else if (!stream && state.loaded) {
    connect();
  }
});

function live(now) {
  $('live').dataset.state = now;
  $('live-text').textContent = { live: 'Live', away: 'Catching up', offline: 'Reconnecting', connecting: 'Connecting' }[now];
  if (now === 'away') {
    banner('Live updates are paused: the notifications service is away. Your changes are saved; what happened meanwhile follows.');
  } else if (now === 'offline') {
    banner('The connection is lost. Trying again…', 'bad');
    // Nobody tells any more how the services are.
    for (const chip of document.querySelectorAll('.service')) chip.dataset.state = 'unknown';
    for (const light of document.querySelectorAll('.lights i')) light.dataset.light = 'unknown';
  } else {
    banner('');
  }
}

// ---- changes ---------------------------------------------------------------------------------------------------

// Shows a wish at once; takes it back with the reason if it cannot be had.
async function wish(id, want, act, undoText) {
  const before = state.wanted.get(id);
  const mineNow = { ...before, ...want };
  state.wanted.set(id, mineNow);
  render();
  try {
    const answer = await act();
    if (answer?.task) keep(answer.task);
    for (const removed of answer?.removed ?? []) forget(removed, answer.rev);
    return answer;
  } catch (error) {
    if (error.status === 404 && error.code === 'NOT_FOUND') {
      forget(id, state.rev);
      if (!want.removed) toast('This task was removed in another window.', { kind: 'bad' });
    } else if (error.code !== 'CONFLICT') {
      toast(`${undoText} ${error.message}`, { kind: 'bad', action: ['Try again', () => wish(id, want, act, undoText)] });
    }
    throw error;
  } finally {
    if (state.wanted.get(id) === mineNow) state.wanted.delete(id);
    render();
  }
}

const quietly = (promise) => promise.catch(() => {});

function add(title) {
  title = title.trim().replace(/\s+/g, ' ');
  if (!title) return;
  const id = `new-${crypto.randomUUID()}`;
  const want = { create: true, title, done: false, createdAt: Date.now() };
  quietly(wish(id, want, () => change('POST', '/api/tasks', { title }), `“${title}” was not added.`));
}

function toggle(id) {
  const task = shown(id);
  if (!task || task.create) return;
  const done = !task.done;
  quietly(wish(id, { done }, () => change('PATCH', `/api/tasks/${id}`, { done }), 'Not changed.'));
}

// A title is changed only in the version that was seen. If somebody else changed something other than the title,
// the two changes merge; if they changed the title too, the person decides.
async function rename(id, title, base = state.tasks.get(id)) {
  title = title.trim().replace(/\s+/g, ' ');
  if (!base || !title || title === base.title) return render();
  try {
    await wish(id, { title }, () => change('PATCH', `/api/tasks/${id}`, { title, ifRev: base.rev }), 'Not renamed.');
  } catch (error) {
    if (error.code !== 'CONFLICT' || !error.current) return;
    keep(error.current);
    render();
    if (error.current.title === base.title) return rename(id, title, error.current);
    toast(`Somebody renamed this to “${error.current.title}”.`, {
      kind: 'bad', action: ['Use mine', () => rename(id, title, error.current)],
    });
  }
}

function remove(id) {
  const task = shown(id);
  if (!task || task.create) return;
  focusNear(id);
  const act = () => change('DELETE', `/api/tasks/${id}`);
  wish(id, { removed: true }, act, 'Not removed.').then(
    () => toast(`Removed “${task.title}”.`, { action: ['Undo', () => restore(task)] }),
    () => {},
  );
}

async function restore(task) {
  const want = { create: true, title: task.title, done: task.done, createdAt: Date.now() };
  const act = () => change('POST', '/api/tasks', { title: task.title });
  try {
    const answer = await wish(`new-${crypto.randomUUID()}`, want, act, `“${task.title}” was not restored.`);
    if (task.done && answer?.task) toggle(answer.task.id);
  } catch { /* told already */ }
}

async function clearDone() {
  try {
    const answer = await change('DELETE', '/api/tasks');
    for (const id of answer.removed) forget(id, answer.rev);
    for (let n = 0; n < answer.removed.length; n++) state.mine.add(answer.rev - n);
    render();
    toast(`Cleared ${answer.removed.length} done.`);
  } catch (error) {
    toast(`Not cleared. ${error.message}`, { kind: 'bad', action: ['Try again', clearDone] });
  }
}

// ---- showing ---------------------------------------------------------------------------------------------------

// A task as this page wants to see it: the server's, with this page's wishes over it.
function shown(id) {
  const want = state.wanted.get(id);
  if (want?.removed) return null;
  const task = state.tasks.get(id);
  if (!task) return want?.create ? { id, ...want } : null;
  return { ...task, ...want };
}

function everything() {
  const ids = new Set([...state.tasks.keys(), ...state.wanted.keys()]);
  return [...ids].map(shown).filter(Boolean).sort((a, b) => a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1));
}

const rows = new Map();

function render() {
  const all = everything();
  const open = all.filter((task) => !task.done).length;
  const visible = all.filter((task) => state.filter === 'all' || task.done === (state.filter === 'done'));
  const list = $('list');
  const keepIds = new Set(visible.map((task) => task.id));
  for (const [id, row] of rows) if (!keepIds.has(id)) { row.remove(); rows.delete(id); }
  let place = list.firstElementChild;
  for (const task of visible) {
    let row = rows.get(task.id);
    if (!row) { row = newRow(task.id); rows.set(task.id, row); }
    fill(row, task);
    if (row === place) place = place.nextElementSibling;
    else list.insertBefore(row, place);
  }
  const active = list.contains(document.activeElement) ? document.activeElement.closest('.task') : null;
  let stop = active ?? list.querySelector('.task[tabindex="0"]') ?? list.firstElementChild;
  for (const row of list.children) row.tabIndex = row === stop ? 0 : -1;

  $('summary').textContent = !state.loaded || all.length === 0 ? 'Your tasks' : open === 0 ? 'All done' : open === 1 ? '1 task to do' : `${open} tasks to do`;
  document.title = open ? `(${open}) Todo · Outrigger` : 'Todo · Outrigger';
  $('clear').hidden = !all.some((task) => task.done);
  $('empty').hidden = !state.loaded || visible.length > 0;
  $('empty-title').textContent = all.length === 0 ? 'Nothing to do' : state.filter === 'open' ? 'All done' : 'Nothing here';
  $('empty-hint').hidden = all.length > 0;
  for (const tab of document.querySelectorAll('.tab')) tab.setAttribute('aria-pressed', String(tab.dataset.filter === state.filter));
  renderWaiting();
}

function element(name, classes, text) {
  const made = document.createElement(name);
  if (classes) made.className = classes;
  if (text !== undefined) made.textContent = text;
  return made;
}

function newRow(id) {
  const row = element('li', 'task');
  row.dataset.id = id;
  const check = element('button', 'check', '✓');
  check.type = 'button';
  check.tabIndex = -1;
  check.setAttribute('role', 'checkbox');
  check.onclick = () => { toggle(id); row.focus(); };
  const title = element('span', 'title');
  title.ondblclick = () => edit(row);
  const out = element('button', 'remove', '✕');
  out.type = 'button';
  out.tabIndex = -1;
  out.onclick = () => remove(id);
  row.append(check, title, out);
  return row;
}

function fill(row, task) {
  row.classList.toggle('done', task.done);
  row.classList.toggle('pending', state.wanted.has(task.id));
  row.setAttribute('aria-label', `${task.title}, ${task.done ? 'done' : 'to do'}`);
  const check = row.querySelector('.check');
  check.setAttribute('aria-checked', String(task.done));
  check.setAttribute('aria-label', task.done ? `${task.title}: to be done again` : `${task.title}: done`);
  row.querySelector('.remove').setAttribute('aria-label', `Remove ${task.title}`);
  const title = row.querySelector('span.title');
  if (title && title.textContent !== task.title) title.textContent = task.title;
  let bell = row.querySelector('.bell');
  if (task.remindAt && !bell) { bell = element('span', 'bell soft', '⏰'); row.querySelector('.remove').before(bell); }
  if (!task.remindAt) bell?.remove();
  else bell.title = `Reminder ${new Date(task.remindAt).toLocaleString()}`;
}

function mark(id) {
  const row = rows.get(id);
  if (!row) return;
  row.classList.remove('fresh');
  void row.offsetWidth;
  row.classList.add('fresh');
}

function edit(row) {
  const id = row.dataset.id;
  const base = state.tasks.get(id);
  const title = row.querySelector('span.title');
  if (!base || !title) return;
  const field = element('input', 'title');
  field.value = base.title;
  field.maxLength = 200;
  field.setAttribute('aria-label', 'Title');
  let over = false;
  const leave = (save) => {
    if (over) return;
    over = true;
    const value = field.value;
    field.replaceWith(title);
    row.focus();
    if (save) rename(id, value, base);
  };
  field.onkeydown = (event) => {
    event.stopPropagation();
    if (event.key === 'Enter') leave(true);
    if (event.key === 'Escape') leave(false);
  };
  field.onblur = () => leave(true);
  title.replaceWith(field);
  field.focus();
  field.select();
}

function focusNear(id) {
  const row = rows.get(id);
  if (!row?.contains(document.activeElement)) return;
  (row.nextElementSibling ?? row.previousElementSibling ?? $('new-title')).focus();
}

const ago = new Intl.RelativeTimeFormat('en', { numeric: 'auto' });
function when(at) {
  const seconds = Math.round((at - Date.now()) / 1000);
  if (seconds > -45) return 'just now';
  if (seconds > -3600) return ago.format(Math.round(seconds / 60), 'minute');
  if (seconds > -86400) return ago.format(Math.round(seconds / 3600), 'hour');
  return ago.format(Math.round(seconds / 86400), 'day');
}

function renderFeed() {
  $('feed').replaceChildren(...state.entries.map((entry) => {
    const [sign, word] = WORDS[entry.kind] ?? ['·', 'Changed'];
    const line = element('li');
    line.dataset.seq = entry.seq;
    const mark = element('span', 'mark', sign);
    mark.setAttribute('aria-hidden', 'true');
    const time = element('time', '', when(entry.at));
    time.dateTime = new Date(entry.at).toISOString();
    line.append(mark, element('span', 'what', `${word}: ${entry.task.title}`), time);
    return line;
  }));
  $('feed-empty').hidden = state.entries.length > 0;
}
setInterval(renderFeed, 30000);

function renderWaiting() {
  const waiting = Math.max(0, state.rev - state.heard, state.outbox);
  $('waiting').dataset.count = waiting;
  $('waiting').textContent = `${waiting} waiting`;
}

function renderStatus(status) {
  state.outbox = status.waiting;
  renderWaiting();
  $('services').replaceChildren(...status.services.map((service) => {
    const chip = element('li', 'service');
    const parts = service.instances.flatMap((member) => [member.service, member.sidecar]);
    chip.dataset.app = service.app;
    chip.dataset.state = parts.includes('down') ? 'down' : parts.includes('unknown') ? 'unknown' : 'up';
    const words = service.instances.map((m) => `${m.instance}: service ${m.service}, sidecar ${m.sidecar}`);
    chip.title = words.join('\n');
    chip.append(element('span', '', service.app));
    for (const member of service.instances) {
      const lights = element('span', 'lights');
      for (const part of ['service', 'sidecar']) {
        const light = element('i');
      light.dataset.part = part;
        light.dataset.light = member[part];
        lights.append(light);
      }
      chip.append(lights);
    }
    const trouble = service.instances.flatMap((m) => ['service', 'sidecar'].filter((part) => m[part] === 'down'));
    if (trouble.length) chip.append(element('span', '', `${[...new Set(trouble)].join(' and ')} down`));
    chip.append(element('span', 'sr', words.join('; ')));
    return chip;
  }));
}

function answeredBy(instance, gateway) {
  if (instance && gateway) $('answered').textContent = `answered by ${instance} via ${gateway}`;
}

function banner(text, kind = 'warn') {
  $('banner').hidden = !text;
  $('banner').dataset.kind = kind;
  if ($('banner').textContent !== text) $('banner').textContent = text;
}

function toast(text, { kind = '', action, name } = {}) {
  const box = element('div', `toast ${kind}`);
  if (name) box.dataset.name = name;
  box.append(element('span', '', text));
  if (action) {
    const button = element('button', '', action[0]);
    button.type = 'button';
    button.onclick = () => { box.remove(); action[1](); };
    box.append(button);
  }
  $('toasts').append(box);
  while ($('toasts').children.length > 4) $('toasts').firstElementChild.remove();
  setTimeout(() => box.remove(), kind === 'bad' ? 12000 : 5000);
}

// ---- preferences and session -----------------------------------------------------------------------------------

const THEMES = { auto: ['◐', 'as the system'], light: ['☀', 'light'], dark: ['☾', 'dark'] };

function applyPreferences() {
  const { theme, notify } = state.preferences;
  if (theme === 'auto') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  $('theme').textContent = THEMES[theme][0];
  $('theme').setAttribute('aria-label', `Colours: ${THEMES[theme][1]}`);
  $('notify').setAttribute('aria-pressed', String(notify));
}

async function prefer(changes) {
  const before = state.preferences;
  state.preferences = { ...before, ...changes };
  applyPreferences();
  try {
    state.preferences = await change('PATCH', '/api/preferences', changes);
  } catch (error) {
    state.preferences = before;
    toast(`Not kept. ${error.message}`, { kind: 'bad' });
  }
  applyPreferences();
}

async function session() {
  const { user } = await once('GET', '/api/session');
  // Another tab may have chosen another name; the list is that name's from now on.
  if (state.user && user !== state.user) location.reload();
  state.user = user;
  $('user').textContent = user;
}

function show(filter) {
  state.filter = filter;
  render();
  // Whoever hides what is done wants it hidden tomorrow.
  const hideDone = filter === 'open';
  if (hideDone !== state.preferences.hideDone) prefer({ hideDone });
}

$('new').onsubmit = (event) => {
  event.preventDefault();
  add($('new-title').value);
  $('new-title').value = '';
};
$('chat').onsubmit = async (event) => {
  event.preventDefault();
  const text = $('chat-text').value.trim();
  if (!text) return;
  $('chat-text').value = '';
  $('chat-reply').textContent = '…';
  try {
    const { reply } = await change('POST', '/api/chat', { text });
    $('chat-reply').textContent = reply;
  } catch (error) {
    $('chat-reply').textContent = error.message;
    $('chat-text').value = text;
  }
};
for (const tab of document.querySelectorAll('.tab')) tab.onclick = () => show(tab.dataset.filter);
$('clear').onclick = clearDone;
$('theme').onclick = () => {
  const names = Object.keys(THEMES);
  prefer({ theme: names[(names.indexOf(state.preferences.theme) + 1) % names.length] });
};
$('notify').onclick = () => prefer({ notify: !state.preferences.notify });
$('help').onclick = () => $('keys').showModal();
$('user').onclick = () => { $('who-name').value = state.user; $('who-error').hidden = true; $('who').showModal(); $('who-name').select(); };
$('who-cancel').onclick = () => $('who').close();
async function choose() {
  try {
    await once('POST', '/api/session', { user: $('who-name').value });
    location.reload();
  } catch (error) {
    $('who-error').textContent = error.message;
    $('who-error').hidden = false;
  }
}
$('who-ok').onclick = choose;
$('who-name').onkeydown = (event) => { if (event.key === 'Enter') { event.preventDefault(); choose(); } };

// ---- keyboard --------------------------------------------------------------------------------------------------

document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog[open]')) return;
  const target = event.target;
  if (target.id === 'new-title') {
    if (event.key === 'Escape') target.blur();
    if (event.key === 'ArrowDown') { event.preventDefault(); $('list').firstElementChild?.focus(); }
    return;
  }
  if (target.matches('input')) return;
  const row = target.closest?.('.task');
  const move = (to) => { if (to) { event.preventDefault(); to.focus(); } };
  switch (event.key) {
    case 'n': event.preventDefault(); $('new-title').focus(); break;
    case '?': $('keys').showModal(); break;
    case '1': show('all'); break;
    case '2': show('open'); break;
    case '3': show('done'); break;
    case 'ArrowDown': move(row ? row.nextElementSibling : $('list').firstElementChild); break;
    case 'ArrowUp': move(row ? row.previousElementSibling ?? $('new-title') : $('list').lastElementChild); break;
    case 'Home': if (row) move($('list').firstElementChild); break;
    case 'End': if (row) move($('list').lastElementChild); break;
    case ' ': if (row && target === row) { event.preventDefault(); toggle(row.dataset.id); } break;
    case 'Enter': if (row && target === row) { event.preventDefault(); edit(row); } break;
    case 'Delete': case 'Backspace': if (row) { event.preventDefault(); remove(row.dataset.id); } break;
  }
});
$('list').addEventListener('focusin', (event) => {
  const row = event.target.closest('.task');
  for (const other of $('list').children) other.tabIndex = other === row ? 0 : -1;
});

// ---- beginning -------------------------------------------------------------------------------------------------

async function start() {
  clearTimeout(streamTimer);
  try {
    await session();
    // The place in the feed first, then the list: what happens in between is in both rather than in none.
    let away = false;
    try { await loadFeed(); } catch { away = true; }
    await loadTasks();
    try {
      state.preferences = await once('GET', '/api/preferences');
      if (state.preferences.hideDone) state.filter = 'open';
    } catch { /* the defaults do */ }
    applyPreferences();
    render();
    loadStatsSoon();
    connect();
    if (away) live('away');
  } catch (error) {
    live('offline');
    banner(`${error.message} Trying again…`, 'bad');
    try { renderStatus(await once('GET', '/api/status')); } catch { /* not even the gateway answers */ }
    streamTimer = setTimeout(start, streamPause);
    streamPause = Math.min(streamPause * 1.6, 5000);
  }
}

start();
