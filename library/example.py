#!/usr/bin/env python3
"""Prints the findings of one study through libmedfusion:  example.py BUNDLE DICOM… [EHR.json]

Needs nothing but Python's ctypes and the installed library.
"""
import ctypes
import json
import pathlib
import sys


class Part(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_int), ("path", ctypes.c_char_p), ("data", ctypes.c_char_p), ("size", ctypes.c_size_t)]


DICOM, EHR = 0, 1

library = ctypes.CDLL("libmedfusion.so.0")
library.medfusion_open.restype = ctypes.c_void_p
library.medfusion_open.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p)]
library.medfusion_predict.restype = ctypes.c_void_p
library.medfusion_predict.argtypes = [ctypes.c_void_p, ctypes.POINTER(Part), ctypes.c_size_t, ctypes.c_char_p, ctypes.POINTER(ctypes.c_void_p)]
library.medfusion_free.argtypes = [ctypes.c_void_p]
library.medfusion_close.argtypes = [ctypes.c_void_p]


class Problem(Exception):
    """A medfusion.problem/1; its text is the detail."""

    def __init__(self, document):
        super().__init__(document["detail"])
        self.document = document


def taken(text):
    """JSON that the library gave us, and gives its memory back."""
    try:
        return json.loads(ctypes.string_at(text))
    finally:
        library.medfusion_free(text)


class Medfusion:
    """A bundle; `with Medfusion(directory) as model: model.predict(…)`."""

    def __init__(self, bundle):
        problem = ctypes.c_void_p()
        self.handle = library.medfusion_open(str(bundle).encode(), None, ctypes.byref(problem))
        if not self.handle:
            raise Problem(taken(problem))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        library.medfusion_close(self.handle)

    def predict(self, dicom, ehr=None, options=None):
        """dicom: the bytes of Part 10 files or zips; ehr: those of a FHIR Bundle; options: a dictionary."""
        parts = [Part(DICOM, None, data, len(data)) for data in dicom]
        parts += [Part(EHR, None, ehr, len(ehr))] if ehr is not None else []
        problem = ctypes.c_void_p()
        result = library.medfusion_predict(self.handle, (Part * len(parts))(*parts), len(parts),
                                           json.dumps(options or {}).encode(), ctypes.byref(problem))
        if not result:
            raise Problem(taken(problem))
        return taken(result)


def main():
    if len(sys.argv) < 3:
        print(__doc__, file=sys.stderr)
        return 2
    files = [pathlib.Path(name) for name in sys.argv[2:]]
    ehr = [file.read_bytes() for file in files if file.suffix == ".json"]
    try:
        with Medfusion(sys.argv[1]) as model:
            result = model.predict([file.read_bytes() for file in files if file.suffix != ".json"], *ehr)
    except Problem as problem:
        print(problem, file=sys.stderr)
        return 1
    for finding in sorted(result["predictions"], key=lambda p: -p["probability"]):
        print(f'{finding["display"]:24} {finding["probability"]:6.1%}  {finding["state"]:9}  {finding["guarantee"]}')
    return 0


if __name__ == "__main__":
    sys.exit(main())
