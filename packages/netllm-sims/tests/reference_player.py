"""The reference's player in plain Python, transcribed from ORACLES.md (ABR), one session at a time.

It walks from trace point to trace point as the published `env.py` does, so it shares nothing with
the curve and the search that it checks.
"""

from math import ceil


class ReferencePlayer:
    def __init__(self, time_s, bandwidth_mbps, pointer, *, scale=1.0, setting):
        self.time_s, self.bandwidth = time_s, [scale * b for b in bandwidth_mbps]
        self.pointer, self.last = pointer, time_s[pointer - 1]
        self.setting, self.video = setting, setting.video
        self.buffer_s, self.level, self.chunk = 0.0, 0, 0

    def move_on(self):
        self.last = self.time_s[self.pointer]
        self.pointer += 1
        if self.pointer >= len(self.time_s):
            self.pointer, self.last = 1, 0.0

    def pause(self, seconds):
        while True:
            left = self.time_s[self.pointer] - self.last
            if left > seconds:
                self.last += seconds
                return
            seconds -= left
            self.move_on()

    def transfer(self, size):
        sent, seconds = 0.0, 0.0
        while True:
            rate = self.bandwidth[self.pointer] * 1e6 / 8
            duration = self.time_s[self.pointer] - self.last
            payload = rate * duration * self.setting.packet_share
            if sent + payload > size:
                part = (size - sent) / rate / self.setting.packet_share
                self.last += part
                return seconds + part
            sent += payload
            seconds += duration
            self.move_on()

    def download(self, level, *, latency_s=0.0, noise=1.0):
        setting, video = self.setting, self.video
        if latency_s:
            self.pause(latency_s)
        delay_s = self.transfer(video.sizes_bytes[self.chunk][level]) + setting.rtt_s
        delay_s *= noise
        gone_s = delay_s + latency_s
        stall_s = max(gone_s - self.buffer_s, 0.0)
        self.buffer_s = max(self.buffer_s - gone_s, 0.0) + video.chunk_s
        if self.buffer_s > setting.buffer_cap_s:
            steps = ceil((self.buffer_s - setting.buffer_cap_s) / setting.drain_s)
            self.buffer_s -= steps * setting.drain_s
            self.pause(steps * setting.drain_s)
        rate, before = video.rates_kbps[level] / 1000, video.rates_kbps[self.level] / 1000
        reward = rate - setting.rebuffering * stall_s - setting.smoothness * abs(rate - before)
        self.level, self.chunk = level, self.chunk + 1
        return {"reward": reward, "delay_s": delay_s, "stall_s": stall_s, "buffer_s": self.buffer_s}
