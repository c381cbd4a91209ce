// Lets a server of `netllm serve` choose the bitrates of dash.js 5, Shaka or hls.js.
//
//   <script src="http://127.0.0.1:8035/players/netllm.js"></script>
//   netllm.dashjs(player, options)        before player.initialize(…)
//   netllm.shaka(player, options)         before player.load(…)
//   netllm.hlsjs(Hls, options)            in place of new Hls(…); `config` of options goes to it
//
// A segment that has arrived is held back until the server has said at which level the next one is
// to be loaded, for `deadlineMs` at most; then a rule (`steady` of netllm-baselines) decides
// instead, here in the page. So a player never waits for a server that is gone.
//
// options: sizesMb    sizes of all segments, MB, [segment][level]; required
//          ratesKbps  the ladder, kbit/s, rising; required
//          chunkS     length of a segment, s; required
//          rebuffering, smoothness  what a second without playback and a change of a Mbit/s cost, of
//                     the QoE that a model was adapted for; 4.3 and 1 if left out
//          server     where `netllm serve` listens; this script's own origin if left out
//          deadlineMs 150 if left out
//          token      what the server requires, if it does
//          config     of hls.js alone: its own configuration
//          decided    called after every segment with what was seen, and what was answered
"use strict";

const netllm = (() => {
  const HISTORY = 6;
  const BEARS = 0.9, FULL_S = 12, SHARE = 0.6; // of `steady`, as netllm-baselines has them
  const SPARE_MS = 50; // for the way to the server and back: it falls back by itself before
  const own = document.currentScript ? new URL(document.currentScript.src).origin : "";
  const USUAL = {
    rebuffering: 4.3, smoothness: 1, server: own, deadlineMs: 150, decided: () => {},
  };

  /** One session: what was downloaded and played, and which level comes next. */
  class Decider {
    /** @param element gives the player's video element, once it has one. */
    constructor(element, options) {
      for (const name of ["sizesMb", "ratesKbps", "chunkS"])
        if (options[name] === undefined) throw new Error(`netllm needs the option ${name}.`);
      this.element = element;
      this.options = { ...USUAL, ...options };
      this.throughputMbps = new Array(HISTORY).fill(0);
      this.delayS = new Array(HISTORY).fill(0);
      this.level = 0; // what the next segment is to be loaded at
      this.before = 0;
      this.stalledS = 0;
      this.clock = null; // when playback began, and where
      this.session = null; // a promise of its id; opened before there is anything to decide
      this.open().catch(() => {});
    }

    /** Seconds in which nothing was played since it began, pauses and all. */
    stallS() {
      const nowS = performance.now() / 1e3, { currentTime } = this.element();
      if (this.clock === null) {
        if (!(currentTime > 0)) return 0;
        this.clock = nowS - currentTime;
      }
      return Math.max(0, nowS - this.clock - currentTime);
    }

    open() {
      const { deadlineMs } = this.options;
      const gone = AbortSignal.timeout(10 * deadlineMs);
      const opened = this.post("/v1/abr/sessions", { count: 1 }, gone);
      this.session = opened.then(({ sessions }) => sessions[0]);
      this.session.catch(() => { this.session = null; });
      return this.session;
    }

    /** Level of the segment that follows segment `number` (from 0), which has just arrived. */
    async next({ number, level, bytes, tookS }) {
      const { sizesMb, ratesKbps, chunkS, rebuffering, smoothness } = this.options;
      if (number === 0) // nothing is played yet: from now on it is seen when playback begins
        for (const event of ["playing", "timeupdate"])
          this.element().addEventListener(event, () => this.stallS());
      const left = sizesMb.length - 1 - number;
      this.throughputMbps = [...this.throughputMbps.slice(1), (bytes * 8e-6) / tookS];
      this.delayS = [...this.delayS.slice(1), tookS];
      const stalledS = this.stallS();
      const stallS = number === 0 ? tookS : Math.max(0, stalledS - this.stalledS);
      this.stalledS = stalledS;
      const rate = ratesKbps[level], change = Math.abs(rate - ratesKbps[this.before]);
      this.before = level;
      const none = new Array(ratesKbps.length).fill(0);
      const observation = {
        throughput_mbps: this.throughputMbps,
        delay_s: this.delayS,
        sizes_mb: Array.from({ length: HISTORY }, (_, i) => sizesMb[number + 1 + i] ?? none),
        rate_kbps: rate,
        level,
        buffer_s: this.bufferS() + chunkS,
        stall_s: stallS,
        chunks_left: left,
        reward: rate / 1e3 - rebuffering * stallS - (smoothness * change) / 1e3,
      };
      const seen = { number, bytes, observation };
      if (left <= 0) {
        this.end();
        this.options.decided(seen);
        return this.level;
      }
      const startMs = performance.now();
      const told = await this.ask(observation);
      this.level = told.answer;
      this.options.decided({ ...seen, ...told, tookMs: performance.now() - startMs });
      return this.level;
    }

    /** Seconds that can be played without another segment. */
    bufferS() {
      const { buffered, currentTime } = this.element();
      for (let i = 0; i < buffered.length; i++)
        if (buffered.start(i) <= currentTime + 0.5 && currentTime <= buffered.end(i))
          return buffered.end(i) - currentTime;
      return 0;
    }

    async ask(observation) {
      const { deadlineMs } = this.options;
      const gone = AbortSignal.timeout(deadlineMs + SPARE_MS);
      try {
        const session = await Promise.race([this.session ?? this.open(), late(gone)]);
        const decisions = [{ session, observation }];
        const body = { decisions, deadline_ms: deadlineMs };
        const { answer, by } = (await this.post("/v1/abr/decisions", body, gone)).decisions[0];
        return { answer, by };
      } catch (error) {
        if (error.status === 404) this.session = null; // the server has begun anew
        return { answer: this.fallback(observation), by: "page", why: String(error) };
      }
    }

    async post(path, body, signal) {
      const headers = { "Content-Type": "application/json" };
      if (this.options.token) headers.Authorization = `Bearer ${this.options.token}`;
      const request = { method: "POST", headers, body: JSON.stringify(body), signal };
      const response = await fetch(this.options.server + path, request);
      if (response.ok) return response.json();
      const error = new Error(`${response.status} ${await response.text()}`);
      error.status = response.status;
      throw error;
    }

    /** As `steady`: keeps the level, one up where the link bears it, down to what comes in time. */
    fallback({ level, throughput_mbps: all, buffer_s: bufferS, sizes_mb: [sizesMb] }) {
      const known = all.filter((one) => one > 0), { ratesKbps } = this.options;
      const meanMbps = known.length / known.reduce((sum, one) => sum + 1 / one, 0);
      const above = Math.min(level + 1, ratesKbps.length - 1);
      const up = meanMbps >= (BEARS * ratesKbps[above]) / 1e3 && bufferS >= FULL_S;
      const inTime = sizesMb.findLastIndex((one) => 8 * one <= SHARE * bufferS * meanMbps);
      return Math.min(up ? above : level, Math.max(0, inTime));
    }

    /** Close the session; the server would do so by itself after some minutes. */
    end() {
      const { token, server } = this.options, opened = this.session;
      this.session = null;
      const headers = token ? { Authorization: `Bearer ${token}` } : {};
      const close = { method: "DELETE", headers, keepalive: true };
      opened?.then((id) => fetch(`${server}/v1/abr/sessions/${id}`, close)).catch(() => {});
    }
  }

  /** A promise that fails when the signal says that it is too late. */
  function late(signal) {
    return new Promise((_, fail) => {
      signal.addEventListener("abort", () => fail(new Error("The server is late.")));
    });
  }

  /** dash.js 5. Its own rules are switched off; segments are held by a response interceptor. */
  function dashjs(player, options) {
    const decider = new Decider(() => player.getVideoElement(), options);
    const levels = (some) => [...some].sort((a, b) => a.bitsPerSecond - b.bitsPerSecond);
    const rules = ["throughput", "bola", "insufficientBuffer", "switchHistory", "droppedFrames"];
    const off = [...rules, "abandonRequests"].map((name) => [`${name}Rule`, { active: false }]);
    player.updateSettings({
      streaming: {
        buffer: { fastSwitchEnabled: false },
        abr: { rules: Object.fromEntries(off), initialBitrate: { video: 1 } },
      },
    });
    const factory = window.dashjs.FactoryMaker;
    function Rule() {
      const context = this.context;
      return {
        getSwitchRequest(rulesContext) {
          const request = factory.getClassFactoryByName("SwitchRequest")(context).create();
          const info = rulesContext.getMediaInfo();
          if (info.type !== "video") return request;
          const some = rulesContext.getAbrController().getPossibleVoRepresentations(info, true);
          request.representation = levels(some)[decider.level];
          request.reason = { name: "netllm" };
          return request;
        },
      };
    }
    Rule.__dashjs_factory_name = "NetllmRule";
    player.addABRCustomRule("qualitySwitchRules", "NetllmRule", factory.getClassFactory(Rule));
    player.addResponseInterceptor(async (response) => {
      const { request } = response.request.customData;
      if (request.type !== "MediaSegment" || request.mediaType !== "video" || !response.data)
        return response;
      const all = levels(player.getRepresentationsByType("video"));
      await decider.next({
        number: request.index,
        level: all.findIndex((one) => one.id === request.representation.id),
        bytes: response.data.byteLength,
        tookS: response.resourceTiming.duration / 1e3,
      });
      return response;
    });
    return decider;
  }

  /** Shaka. Its own choice is switched off; segments are held by a response filter. */
  function shaka(player, options) {
    const decider = new Decider(() => player.getMediaElement(), options);
    const { RequestType, AdvancedRequestType } = window.shaka.net.NetworkingEngine;
    const levels = () => player.getVariantTracks().sort((a, b) => a.bandwidth - b.bandwidth);
    const lowest = { useNetworkInformation: false, defaultBandwidthEstimate: 1 };
    player.configure({ abr: { enabled: false, ...lowest } });
    player.getNetworkingEngine().registerResponseFilter(async (type, response, context) => {
      const { segment, stream } = context ?? {};
      const media = context?.type === AdvancedRequestType.MEDIA_SEGMENT;
      if (type !== RequestType.SEGMENT || !media || stream.type !== "video") return;
      const next = await decider.next({
        number: Math.round(segment.getStartTime() / options.chunkS),
        level: levels().findIndex((track) => track.videoId === stream.id),
        bytes: response.data.byteLength,
        tookS: response.timeMs / 1e3,
      });
      // Not before the segment is let go: a switch would throw it away and load another.
      setTimeout(() => player.selectVariantTrack(levels()[next], false), 0);
    });
    return decider;
  }

  /** hls.js. Its rule is replaced by what was decided; segments are held by their loader. */
  function hlsjs(Hls, options) {
    let hls = null;
    const decider = new Decider(() => hls.media, options);
    const { loader: Loader, abrController: Abr } = Hls.DefaultConfig;
    class Held extends Loader {
      load(context, config, callbacks) {
        const { frag } = context;
        const onSuccess = async (response, stats, ...more) => {
          if (frag.type === "main" && frag.sn !== "initSegment")
            await decider.next({
              number: frag.sn,
              level: frag.level,
              bytes: stats.loaded,
              tookS: (stats.loading.end - stats.loading.start) / 1e3,
            });
          callbacks.onSuccess(response, stats, ...more);
        };
        super.load(context, config, { ...callbacks, onSuccess });
      }
    }
    class Decided extends Abr {
      get firstAutoLevel() { return 0; }
      get nextAutoLevel() { return decider.level; }
      set nextAutoLevel(level) {}
      onFragLoading() {} // else it gives up a segment that is slow, and asks for the same again
    }
    const own = { fLoader: Held, abrController: Decided, startLevel: 0, testBandwidth: false };
    hls = new Hls({ ...options.config, ...own });
    return hls;
  }

  return { dashjs, shaka, hlsjs, Decider };
})();
