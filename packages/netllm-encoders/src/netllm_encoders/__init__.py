"""Multimodal encoders: observations to token vectors."""
