// What the worker asks of WhatsApp Web, and what it is told. It runs in the page after the injected library, anew at
// each navigation. `sluiceTells` is the worker's: it takes one text. Nothing here decides anything.
(() => {
  'use strict';
  const MAX_TEXT = 65536, MAX_MEDIA = 48 * 2 ** 20;
  const tell = (event, data) => {
    try {
      window.sluiceTells(JSON.stringify({ event, data }));
    } catch {
      // The page is being left, and the worker hears of that by itself.
    }
  };
  const name = (value) => (value === undefined || value === null ? null : String(value));
  const text = (value) => (typeof value === 'string' ? value.slice(0, MAX_TEXT) : '');

  const facts = () => {
    const { mode, info } = WPP.conn.getStreamData();
    const me = WPP.conn.getMyUserId();
    return {
      mode: name(mode),
      info: name(info),
      authenticated: Boolean(WPP.conn.isAuthenticated()),
      registered: Boolean(WPP.conn.isRegistered()),
      phone: me ? me.user : null,
      platform: name(WPP.conn.getPlatform()),
      outdated: Boolean(WPP.conn.needsUpdate()),
      version: name(window.Debug && window.Debug.VERSION),
    };
  };

  const described = (message) => ({
    id: String(message.id),
    chat: name(message.id.remote),
    from: name(message.from),
    to: name(message.to),
    author: name(message.author),
    name: name(message.notifyName),
    body: text(message.body),
    caption: text(message.caption),
    timestamp: Number(message.t) || 0,
    from_me: Boolean(message.id.fromMe),
    type: name(message.type),
    ack: Number(message.ack) || 0,
    mimetype: name(message.mimetype),
    filename: name(message.filename),
    size: Number(message.size) || 0,
  });

  // The ciphertext of a message comes first, as a message of its own; its text follows under the same id.
  const is_whole = (message) => message.type !== 'ciphertext' && !message.isNotification;

  // WhatsApp tells of typing only in chats whose presence somebody has subscribed to; it is told once for each change.
  const subscribed = new Set(), states = new Map();
  const subscribe = (chat) => {
    if (chat.isUser() && !subscribed.has(String(chat))) WPP.contact.subscribePresence(String(chat)).catch(() => {});
    subscribed.add(String(chat));
  };
  const presence = (change) => {
    const chat = name(change.id), state = name(change.state);
    if (states.get(chat) === state) return;
    states.set(chat, state);
    tell('presence', { chat, state, online: Boolean(change.isOnline) });
  };

  // The library tells of receipts alone: that WhatsApp did not take a message after all is seen on the message only.
  const failures = () =>
    WPP.whatsapp.MsgStore.on('change:ack', (message) => {
      if (message.ack < 0 && message.id.fromMe) {
        tell('acknowledged', { ack: Number(message.ack), chat: name(message.id.remote), ids: [String(message.id)] });
      }
    });

  const watch = () => {
    tell('loaded', {});
    if (WPP.isFullReady) failures();
    else WPP.once('loader.full_ready', failures);
    const changed = () => tell('changed', facts());
    for (const event of ['conn.require_auth', 'conn.authenticated', 'conn.main_ready', 'conn.stream_mode_changed',
      'conn.stream_info_changed', 'conn.needs_update', 'conn.online', 'conn.logout']) {
      WPP.on(event, changed);
    }
    WPP.on('conn.auth_code_change', (code) => tell('code', { code: code ? code.fullCode : null }));
    WPP.on('conn.qrcode_idle', () => WPP.conn.refreshQR());
    WPP.on('conn.logout_reason', (reason) => tell('logged_out', { reason: name(reason) }));
    WPP.on('chat.new_message', (message) => {
      if (!is_whole(message)) return;
      tell('message', described(message));
      subscribe(message.id.remote);
    });
    WPP.on('chat.msg_ack_change', (change) =>
      tell('acknowledged', { ack: Number(change.ack), chat: name(change.chat), ids: change.ids.map(String) }));
    WPP.on('chat.presence_change', presence);
    changed();
    window.sluice.code().then((code) => code && tell('code', { code }), () => {});
  };

  // The page asks for a passkey by the browser's own interface, which nobody sees here.
  const credentials = window.CredentialsContainer && CredentialsContainer.prototype;
  if (credentials) {
    const get = credentials.get;
    credentials.get = function (asked) {
      if (asked && asked.publicKey) tell('passkey', {});
      return get.call(this, asked);
    };
  }

  const resultOf = (sent) => (sent.sendMsgResult ? name(sent.sendMsgResult.messageSendResult) : null);

  window.sluice = {
    facts,
    code: async () => {
      const code = await WPP.conn.getAuthCode();
      return code ? code.fullCode : null;
    },
    refresh: () => WPP.conn.refreshQR(),
    pairing: (phone) => WPP.conn.genLinkDeviceCodeForPhoneNumber(phone),
    logout: () => WPP.conn.logout(),
    // The chat as WhatsApp calls it now, which may be by a LID, and the whole id of a message there, which in a group
    // names its sender, too. `made`: that of the message alone, or null. The same id is the same message.
    addressed: async (chat, made) => {
      const found = await WPP.chat.find(chat);
      const key = await WPP.chat.generateMessageID(found);
      return { chat: String(found.id), id: made ? String(key).replace(key.id, made) : String(key) };
    },
    exists: async (chat) => Boolean(await WPP.contact.queryExists(chat)),
    sendText: async (chat, body, messageId) => {
      const sent = await WPP.chat.sendTextMessage(chat, body, { createChat: true, linkPreview: false, messageId });
      return resultOf(sent);
    },
    sendFile: async (chat, dataUrl, options) => {
      const sent = await WPP.chat.sendFileMessage(chat, dataUrl, { createChat: true, ...options });
      return resultOf(sent);
    },
    // Whether a message of this id is there, and how far it came: after a failover, before it is sent once more.
    acknowledged: async (messageId) => {
      const message = await WPP.chat.getMessageById(messageId).catch(() => null);
      return message ? Number(message.ack) || 0 : null;
    },
    media: async (messageId) => {
      const blob = await WPP.chat.downloadMedia(messageId);
      if (blob.size > MAX_MEDIA) return null;
      const url = await new Promise((done, failed) => {
        const reader = new FileReader();
        reader.onload = () => done(reader.result);
        reader.onerror = () => failed(reader.error);
        reader.readAsDataURL(blob);
      });
      return url.slice(url.indexOf(',') + 1);
    },
    // What came while nobody listened: oldest first, at most `limit`.
    since: async (timestamp, limit) => {
      const found = [];
      for (const chat of await WPP.chat.list({ ignoreGroupMetadata: true })) {
        for (const message of chat.msgs.getModelsArray()) {
          if (message.t >= timestamp && is_whole(message)) found.push(described(message));
        }
      }
      found.sort((one, other) => one.timestamp - other.timestamp);
      return found.slice(-limit);
    },
  };

  const ready = () => (WPP.isReady ? watch() : WPP.once('loader.ready', watch));
  if (window.WPP) ready();
})();
