"""The MedFusion network in PyTorch: the specification of the C engine, written for reading.

`network.MedFusion` is the whole; every other file is one module of it. Tensors are float32, images
are (rows, columns), grey values lie in [0, 1], boxes are x0 y0 x1 y1, half-open. ../FORMAT.md says
what a bundle holds.
"""
