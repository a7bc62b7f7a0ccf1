"""Runs inside another Python with `perception`, `imagehash` and `pdqhash`: hashes and times what it is sent.

One request per image: a JSON line `{"shape": [h, w, 3], "specs": [...], "time": bool}`, then the RGB bytes. One JSON
line back: `{spec: {"hex": ..., "quality": ..., "seconds": ..., "imagehash_seconds": ...}}`.
"""

import json
import sys
import time

CLASSES = {
    "ahash": "AverageHash",
    "dhash": "DHash",
    "phash": "PHash",
    "wavelet": "WaveletHash",
    "pdq": "PDQHash",
    "marrhildreth": "MarrHildreth",
    "blockmean": "BlockMean",
    "colormoment": "ColorMoment",
    "phashf": "PHashF",
    "phashu8": "PHashU8",
    "pdqf": "PDQHashF",
}
IMAGEHASH = {"ahash": "average_hash", "dhash": "dhash", "phash": "phash", "wavelet": "whash"}


def make(spec, hashers):
    name, _, parameters = spec.partition(":")
    arguments = dict(item.split("=") for item in parameters.split(",") if item)
    values = {key: {"true": True, "false": False}.get(text) for key, text in arguments.items()}
    return getattr(hashers, CLASSES[name])(**{k: int(arguments[k]) if v is None else v for k, v in values.items()})


def fastest(work, repeats):
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return min(seconds)


def main():
    import cv2
    import imagehash
    import numpy as np
    import PIL.Image
    from perception import hashers

    cv2.setNumThreads(1)
    made = {}
    stream, answers = sys.stdin.buffer, sys.stdout
    sys.stdout = sys.stderr
    while line := stream.readline():
        request = json.loads(line)
        height, width, _ = request["shape"]
        pixels = np.frombuffer(bytearray(stream.read(height * width * 3)), np.uint8).reshape(request["shape"])
        answer = {}
        for spec in request["specs"]:
            hasher = made.setdefault(spec, make(spec, hashers))
            _, quality = hasher.compute_with_quality(pixels, hash_format="hex")
            # compute_with_quality of PDQHashF gives the bits of PDQHash.
            answer[spec] = {"hex": hasher.compute(pixels, hash_format="hex"), "quality": int(quality)}
            if request["time"]:
                answer[spec]["seconds"] = fastest(lambda h=hasher, p=pixels: h.compute(p, hash_format="vector"), 3)
                name, _, parameters = spec.partition(":")
                if name in IMAGEHASH and parameters == "hash_size=16":
                    image, function = PIL.Image.fromarray(pixels), getattr(imagehash, IMAGEHASH[name])
                    answer[spec]["imagehash_seconds"] = fastest(lambda i=image, f=function: f(i, hash_size=16), 3)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
