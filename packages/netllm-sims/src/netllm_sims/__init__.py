"""Networking environments, traces, metrics and settings: adaptive bitrate streaming."""
