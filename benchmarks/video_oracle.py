"""Runs inside another Python with `perception`: times its FramewiseHasher and TMKL1 at 15 fps.

    PYTHON video_oracle.py ROUNDS CLIP…

One JSON line: processor seconds per clip, the fastest of so many rounds, by hasher; null where it raises.
"""

import json
import sys
import time


def main():
    import cv2
    from perception import hashers

    cv2.setNumThreads(1)
    rounds, clips = int(sys.argv[1]), sys.argv[2:]
    made = {
        "framewise": hashers.FramewiseHasher(hashers.PHash(hash_size=16), 0.1, 15),
        "tmkl1": hashers.TMKL1(),
    }
    answers, sys.stdout = sys.stdout, sys.stderr

    def seconds(hasher, clip):
        start = time.process_time()
        try:
            hasher.compute(clip)
        except Exception:
            return float("inf")
        return time.process_time() - start

    result = {name: [min(seconds(h, clip) for _ in range(rounds)) for clip in clips] for name, h in made.items()}
    finite = {name: [s if s < float("inf") else None for s in each] for name, each in result.items()}
    answers.write(json.dumps(finite) + "\n")


if __name__ == "__main__":
    main()
