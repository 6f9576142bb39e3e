"""ETA's rules in plain arithmetic, and its sentences drawn from scratch; see tests/recipes/test_eta.py."""


def stays(image_score, reward, image_threshold, answer_threshold):
    """Whether the first answer stays."""
    return not (image_score > image_threshold and reward < answer_threshold)


def best(rewards, near, number, weight, over):
    """Place of the candidate that is kept."""
    first = number == 1 or over
    scores = [r if first else r + (weight / number) * c for r, c in zip(rewards, near, strict=True)]
    return scores.index(max(scores))
