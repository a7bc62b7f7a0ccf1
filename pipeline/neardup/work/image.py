"""The hashes of one image, and of the frames of an animation."""

from collections.abc import Mapping, Sequence

from neardup.errors import MediaError
from neardup.hashers import Hasher, Planes
from neardup.media import ANIMATED, DecodePolicy, animation_frames, decode_image
from neardup.work.answers import Answer, HasherError, HashRow, blamed_on_hasher, failed, no_hash
from neardup.work.frames import FramePlan, Sampling, frame_plan, frame_rows, is_sampled, kept_rows
from neardup.work.watch import DECODING, Watch


def image_answer(
    data: bytes, hashers: Sequence[Hasher], policy: DecodePolicy, sampling: Sampling, isometric: bool, watch: Watch
) -> Answer:
    """Decode an image once and hash it with every hasher; of an animation, the first frame and those kept after it."""
    watch.enter(DECODING)
    try:
        image = decode_image(data, policy)
    except MediaError as error:
        return failed(error)
    height, width = image.pixels.shape[:2]
    answer = Answer(image.format, width, height, None, image.frame_count, image.partial, error=image.warning)
    planes = Planes(image.pixels)
    plans: dict[int, FramePlan] = {}
    for number, hasher in enumerate(hashers):
        plan = frame_plan(hasher, sampling)
        if number in watch.skipped or plan is None:
            answer.hashes.append([no_hash(watch.skipped.get(number, "this hasher hashes videos only"))])
            continue
        watch.enter(number + 1)
        try:
            answer.hashes.append(image_rows(plan.hasher, planes, isometric))
        except HasherError as error:
            answer.hashes.append([no_hash(str(error))])
        else:
            if not plan.hasher.returns_multiple:
                plans[number] = plan
    if image.frame_count > 1 and image.format in ANIMATED:
        _add_frames(answer, data, plans, policy, isometric, watch)
    return answer


def image_rows(hasher: Hasher, planes: Planes, isometric: bool) -> list[HashRow]:
    """The rows of one picture by one hasher. Raises HasherError."""
    with blamed_on_hasher():
        if isometric:
            variants, quality = hasher.hash_planes_isometric(planes)
        else:
            upright, quality = hasher.hash_planes(planes)
            variants = {"r0": upright}
        rows = [
            HashRow(variant, index, None, hasher.pack(vector), int(quality), None)
            for variant, vectors in variants.items()
            for index, vector in enumerate(vectors if isinstance(vectors, list) else [vectors])
            if vector is not None
        ]
        return rows or [HashRow("r0", 0, None, None, int(quality), "this hasher has no hash for this image")]


def _add_frames(
    answer: Answer, data: bytes, plans: Mapping[int, FramePlan], policy: DecodePolicy, isometric: bool, watch: Watch
) -> None:
    """Add the kept frames behind the first to the rows of each hasher."""
    answer.sampled = True
    found = {number: [row._replace(timestamp_s=0.0) for row in answer.hashes[number] if row.hash] for number in plans}
    errors: dict[int, str] = {}
    watch.enter(DECODING)
    try:
        for frame in animation_frames(data, policy):
            watch.tick()
            answer.duration_s = frame.until_s
            wanted = {k: plan for k, plan in plans.items() if frame.number and k not in errors}
            sampled = {k: at for k, plan in wanted.items() if (at := is_sampled(frame, plan.rate)) is not None}
            planes = Planes(frame.pixels)
            for number, timestamp_s in sampled.items():
                watch.enter(number + 1)
                try:
                    found[number] += frame_rows(plans[number], planes, frame.number, timestamp_s, isometric)
                except HasherError as error:
                    errors[number] = str(error)
            watch.enter(DECODING)
    except MediaError as error:
        answer.partial, answer.error = True, answer.error or str(error)
    for number, plan in plans.items():
        if number in errors:
            answer.hashes[number] = [no_hash(errors[number])]
        elif found[number]:
            answer.hashes[number] = kept_rows(plan, found[number])
