"""The world of `scenes`: coloured animals, landmarks and places, described in three styles.

A sentence names some animals, their place, and in three scenes of five a landmark that they are
above, below, left or right of. The same scene can be described from either side ("two cats sit
above a house", "a house stands below two cats"), with the place first or last, and with synonyms.
Each style has its own words for the same thing, so any sentence shows its style.
"""

from isthmus.data.scenes.exact import Entropy
from isthmus.data.scenes.grammar import Grammar, Sentence
from isthmus.data.scenes.nodes import ARTICLE, Choice, Factor, Given, Node
from isthmus.errors import IsthmusError

STYLES = ("plain", "formal", "playful")
TENSES = ("past", "present", "future")
SPLITS = ("train", "valid", "test")

# Each value with its words in the three styles.
ANIMALS = {
    "cat": ("cat cats", "feline felines", "kitty kitties"),
    "dog": ("dog dogs", "hound hounds", "puppy puppies"),
    "rabbit": ("rabbit rabbits", "hare hares", "bunny bunnies"),
    "bear": ("bear bears", "grizzly grizzlies", "teddy teddies"),
    "mouse": ("mouse mice", "rodent rodents", "squeaker squeakers"),
    "frog": ("frog frogs", "amphibian amphibians", "froggy froggies"),
    "pig": ("pig pigs", "boar boars", "piggy piggies"),
    "bird": ("bird birds", "songbird songbirds", "birdie birdies"),
}
COLOURS = {
    "red": ("red", "crimson", "cherry"),
    "orange": ("orange", "amber", "tangerine"),
    "yellow": ("yellow", "golden", "lemon"),
    "green": ("green", "emerald", "lime"),
    "blue": ("blue", "azure", "blueberry"),
    "purple": ("purple", "violet", "plum"),
}
SIZES: dict[str, tuple[Node, Node, Node]] = {
    "small": (
        Choice("small", "little"),
        Choice("diminutive", "miniature"),
        Choice("tiny", "teeny"),
    ),
    "medium": ("", "", ""),
    "large": (Choice("large", "big"), Choice("immense", "enormous"), Choice("huge", "jumbo")),
}
LANDMARKS = {
    "house": ("house", "residence", "cottage"),
    "tree": ("tree", "oak", "sapling"),
    "tent": ("tent", "pavilion", "wigwam"),
    "boat": ("boat", "vessel", "dinghy"),
    "car": ("car", "automobile", "buggy"),
    "tower": ("tower", "fortress", "castle"),
    "umbrella": ("umbrella", "parasol", "brolly"),
    "mushroom": ("mushroom", "fungus", "toadstool"),
}
PLACES = {
    "meadow": ("in the meadow", "in the pasture", "on the grass"),
    "beach": ("at the beach", "along the shore", "by the seaside"),
    "forest": ("in the forest", "in the woodland", "under the trees"),
    "desert": ("in the desert", "among the dunes", "near the cactus"),
    "mountain": ("on the mountain", "upon the summit", "in the snow"),
    "city": ("in the city", "within the capital", "around the town"),
}
RELATIONS = {
    "above": ("above", "over", "way above"),
    "below": ("below", "beneath", "way below"),
    "left": ("left of", "west of", "just left of"),
    "right": ("right of", "east of", "just right of"),
}
CONVERSE = {"above": "below", "below": "above", "left": "right", "right": "left"}

# Verbs: plain form, third person singular, past.
ANIMAL_VERBS = (
    ("sit sits sat", "wait waits waited"),
    ("rest rests rested", "remain remains remained"),
    ("snooze snoozes snoozed", "giggle giggles giggled"),
)
LANDMARK_VERBS = (
    ("stand stands stood", "be is was"),
    ("appear appears appeared", "loom looms loomed"),
    ("hide hides hid", "gleam gleams gleamed"),
)
ADVERBS = {
    "past": ("yesterday", "previously", "once"),
    "present": ("today", "currently", "now"),
    "future": ("tomorrow", "shortly", "soon"),
}


def _style(plain: Node, formal: Node, playful: Node) -> Node:
    return Given("style", {"plain": plain, "formal": formal, "playful": playful})


def _count(singular: Node, plural: Node) -> Node:
    return Given("count", {"one": singular, "two": plural, "three": plural})


def _tense(past: Node, present: Node, future: Node) -> Node:
    return Given("tense", {"past": past, "present": present, "future": future})


def _verb(forms: str, plural: bool) -> Node:
    """A verb in the scene's tense, whose subject is the animals (`plural`) or the landmark."""
    base, third, past = forms.split()
    return _tense(past, _count(third, base) if plural else third, f"will {base}")


def _verbs(table: tuple[tuple[str, ...], ...], plural: bool) -> Node:
    return _style(*(Choice(*(_verb(forms, plural) for forms in row)) for row in table))


def _root() -> Node:
    """The tree of the grammar."""
    animals: Node = (
        Given("count", {"one": ARTICLE, "two": "two", "three": "three"}),
        Given("size", {size: _style(*words) for size, words in SIZES.items()}),
        Given("colour", {colour: _style(*words) for colour, words in COLOURS.items()}),
        Given(
            "animal",
            {
                animal: _style(*(_count(*forms.split()) for forms in words))
                for animal, words in ANIMALS.items()
            },
        ),
    )
    landmark: Node = (
        ARTICLE,
        Given("landmark_colour", {colour: _style(*words) for colour, words in COLOURS.items()}),
        Given("landmark", {name: _style(*words) for name, words in LANDMARKS.items()}),
    )
    place = Given("place", {name: _style(*words) for name, words in PLACES.items()})
    adverb = _tense(*(_style(*ADVERBS[tense]) for tense in TENSES))
    there_is = _tense(
        _count("there was", "there were"), _count("there is", "there are"), "there will be"
    )
    report = _style(
        there_is,
        _tense("we observed", "we observe", "we will observe"),
        _tense("we spotted", "we spot", "we will spot"),
    )
    animal_verb = _verbs(ANIMAL_VERBS, plural=True)
    landmark_verb = _verbs(LANDMARK_VERBS, plural=False)

    def orders(relation: Node) -> list[Node]:
        return [
            (animals, animal_verb, relation, place),
            (place, report, animals, relation),
            (adverb, report, animals, relation, place),
        ]

    cases: dict[str, Node] = {"alone": Choice(*orders(""))}
    for relation, converse in CONVERSE.items():
        relative = (_style(*RELATIONS[relation]), landmark)
        inverse = (landmark, landmark_verb, _style(*RELATIONS[converse]), animals, place)
        cases[relation] = Choice(*orders(relative), inverse)
    return Given("relation", cases)


def _uniform(values: tuple[str, ...]) -> dict[str, float]:
    return dict.fromkeys(values, 1.0)


ALONE = ("relation", "alone")

WORLD = Grammar(
    [
        Factor("style", _uniform(STYLES)),
        Factor("tense", _uniform(TENSES)),
        Factor("place", _uniform(tuple(PLACES))),
        Factor("count", _uniform(("one", "two", "three"))),
        Factor("size", _uniform(tuple(SIZES))),
        Factor("colour", _uniform(tuple(COLOURS))),
        Factor("animal", _uniform(tuple(ANIMALS))),
        Factor("relation", {"alone": 0.4, **dict.fromkeys(RELATIONS, 0.15)}),
        Factor("landmark_colour", _uniform(tuple(COLOURS)), unless=ALONE),
        Factor("landmark", _uniform(tuple(LANDMARKS)), unless=ALONE),
    ],
    _root(),
)
"""The default grammar."""

TINY = WORLD.restrict(
    {
        "place": ["meadow", "city"],
        "count": ["one", "two"],
        "size": ["medium", "large"],
        "colour": ["red", "orange"],
        "animal": ["cat", "mouse"],
        "relation": ["alone", "above", "left"],
        "landmark_colour": ["orange"],
        "landmark": ["house", "umbrella"],
    }
)
"""The same tree with few values per factor: a few thousand sentences, few enough to enumerate."""


def generate(split: str, count: int, seed: int = 0, start: int = 0) -> list[Sentence]:
    """Sentences start … start + count − 1 of a split.

    The split and the seed are the key of an endless stream of random numbers, and sentence i is a
    function of (split, seed, i). Streams differ, but the same sentence can occur in two of them by
    chance: two draws agree with probability `entropy().repeat_probability`, so a test sentence is
    among n training sentences with at most n times that probability. This does not help a model
    unfairly, as the entropy is that of the distribution.

    Raises:
        IsthmusError: The split is unknown or a number is out of range.
    """
    if split not in SPLITS:
        raise IsthmusError(f"scenes has the splits {', '.join(SPLITS)}; got '{split}'")
    for name, value in (("count", count), ("seed", seed), ("start", start)):
        if not 0 <= value < 2**63:
            raise IsthmusError(f"{name} must lie between 0 and 2**63 − 1, got {value}")
    return WORLD.sample((seed, SPLITS.index(split)), start, count)


def sentence(seed: int, index: int, split: str = "train") -> Sentence:
    """Sentence number `index` of a split, as in `generate`."""
    return generate(split, 1, seed, index)[0]


parse = WORLD.parse
log_probability = WORLD.log_probability
vocabulary = WORLD.vocabulary


def factors(text: str) -> dict[str, str]:
    """The scene that a sentence describes, factor → value; raises as `parse`."""
    return WORLD.parse(text).factors


def entropy() -> Entropy:
    """The exact entropies of the corpus, in nats."""
    return WORLD.entropy


def counterpart(text: str, **changes: str) -> str:
    """The same sentence with some factors changed: the ground truth of an analogy.

    `counterpart(text, colour="blue")` keeps the style, word order and synonyms.
    `relation="alone"` removes the landmark; to add one, give `landmark` and `landmark_colour` too.

    Raises:
        IsthmusError: The text is not of the corpus, or the changed scene is impossible.
    """
    return WORLD.counterpart(text, changes).text
