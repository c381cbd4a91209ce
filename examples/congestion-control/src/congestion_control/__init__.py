"""A fourth task, written as anyone outside NetLLM would: a sender finds the rate of a link.

`link` is the simulator, `policies` are the rivals, `task` wires them to encoder, head and metric.
"""
