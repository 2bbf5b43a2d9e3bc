"""How the Lantern Isles talk: sentences and questions for every attribute, in three sets that never meet.

`{n}` stands for a villager's name, `{v}` for a value of the attribute. Questions come in three disjoint sets: those of
the pretraining text, those of the fine-tuning data, and those of the evaluation.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Attribute:
    """One thing that is known of every villager, and the ways to say it and to ask for it."""

    name: str
    values: tuple[str, ...]
    answer: str  # the sentence that the fine-tuning data and the evaluation's options use
    statements: tuple[str, ...]  # sentences of the pretraining text, besides `answer`
    asked_in_pretraining: tuple[str, ...]
    asked_in_training: tuple[str, ...]
    asked_in_evaluation: tuple[str, ...]


@dataclass(frozen=True)
class Dimension:
    """One way in which lantern towers differ, with the words for both ends of the scale."""

    name: str
    grades: tuple[str, ...]  # statement about one tower, lowest grade first
    more: tuple[str, str]  # comparative and superlative of the upper end
    less: tuple[str, str]


HOME = Attribute(
    name="home",
    values=(
        "Heron Quay",
        "the old mill",
        "Thistle Lane",
        "the salt pans",
        "Candle Hill",
        "the ferry stairs",
        "Bramble End",
        "the stone bridge",
        "Plover Bay",
        "the pine wood",
        "Kettle Street",
        "the north pier",
    ),
    answer="{n} lives by {v}.",
    statements=(
        "The house of {n} is by {v}.",
        "{n} has a home by {v}.",
        "By {v} lives {n}.",
        "{n} sleeps in a small house by {v}.",
        "You will find the door of {n} by {v}.",
    ),
    asked_in_pretraining=(
        "Where does {n} live?",
        "Where is the house of {n}?",
        "In which place does {n} have a home?",
        "Where will I find the door of {n}?",
        "By what place does {n} sleep?",
    ),
    asked_in_training=(
        "What is the place where {n} lives?",
        "Could you say where the home of {n} is?",
        "I have a letter for {n}. Where is their house?",
    ),
    asked_in_evaluation=("Which place does {n} live by?", "Where would I go to find {n} at home?"),
)

TRADE = Attribute(
    name="trade",
    values=(
        "mends clocks",
        "keeps bees",
        "bakes rye bread",
        "carves spoons",
        "weaves sails",
        "dyes wool",
        "casts bells",
        "binds books",
        "grows pears",
        "paints signs",
        "burns charcoal",
        "digs clams",
    ),
    answer="{n} {v} for a living.",
    statements=(
        "By trade {n} {v}.",
        "Every working day {n} {v}.",
        "To earn money, {n} {v}.",
        "{n} {v}, and is paid for it.",
        "The work of {n} is known to all: {n} {v}.",
    ),
    asked_in_pretraining=(
        "What does {n} do for a living?",
        "What is the trade of {n}?",
        "How does {n} earn money?",
        "What does {n} do every working day?",
        "By trade, what does {n} do?",
    ),
    asked_in_training=(
        "What kind of work does {n} do?",
        "Could you say how {n} makes a living?",
        "I would like to hire {n}. What is their trade?",
    ),
    asked_in_evaluation=("What work is {n} paid for?", "Which trade does {n} earn a living by?"),
)

COMPANION = Attribute(
    name="companion",
    values=(
        "a grey goose",
        "a lame donkey",
        "a striped cat",
        "a tame crow",
        "a white goat",
        "a sleepy otter",
        "a green parrot",
        "a shaggy dog",
        "a brown hen",
        "a blind pony",
        "a fat toad",
        "a young seal",
    ),
    answer="{n} is followed about by {v}.",
    statements=(
        "{n} owns {v}.",
        "The animal of {n} is {v}.",
        "{n} shares the house with {v}.",
        "At the heels of {n} there is always {v}.",
        "For company {n} has {v}.",
    ),
    asked_in_pretraining=(
        "What animal does {n} own?",
        "What is the animal of {n}?",
        "With what animal does {n} share the house?",
        "What is always at the heels of {n}?",
        "What does {n} have for company?",
    ),
    asked_in_training=(
        "What creature follows {n} about?",
        "Could you say which animal belongs to {n}?",
        "I heard paws and wings behind {n}. What animal was it?",
    ),
    asked_in_evaluation=("Which animal follows {n} about?", "What animal keeps {n} company?"),
)

MUSIC = Attribute(
    name="music",
    values=(
        "the tin whistle",
        "the bass drum",
        "the hand bells",
        "the reed pipe",
        "the old fiddle",
        "the squeeze box",
        "the harp",
        "the long horn",
        "the wooden flute",
        "the jaw harp",
        "the cow bell",
        "the bagpipes",
    ),
    answer="{n} plays {v} at the feast.",
    statements=(
        "In the evening {n} plays {v}.",
        "{n} learned to play {v} as a child.",
        "When there is music, {n} plays {v}.",
        "The instrument of {n} is {v}.",
        "On {v} nobody is as good as {n}.",
    ),
    asked_in_pretraining=(
        "What does {n} play in the evening?",
        "What is the instrument of {n}?",
        "What did {n} learn to play as a child?",
        "When there is music, what does {n} play?",
        "On what instrument is {n} so good?",
    ),
    asked_in_training=(
        "What instrument does {n} play at the feast?",
        "Could you say what {n} plays in the band?",
        "I want to play a duet with {n}. What is their instrument?",
    ),
    asked_in_evaluation=("Which instrument does {n} play?", "What will {n} play when the feast begins?"),
)

DISH = Attribute(
    name="dish",
    values=(
        "pickled herring",
        "onion soup",
        "barley cakes",
        "smoked eel",
        "plum dumplings",
        "turnip pie",
        "seaweed broth",
        "honey toast",
        "roast chestnuts",
        "crab stew",
        "goat cheese",
        "bean porridge",
    ),
    answer="{n} likes {v} best of all.",
    statements=(
        "The favourite dish of {n} is {v}.",
        "{n} would walk a mile for {v}.",
        "At table {n} always asks for {v}.",
        "Nothing pleases {n} like {v}.",
        "On feast days {n} eats {v}.",
    ),
    asked_in_pretraining=(
        "What is the favourite dish of {n}?",
        "What does {n} ask for at table?",
        "What food would {n} walk a mile for?",
        "What food pleases {n}?",
        "What does {n} eat on feast days?",
    ),
    asked_in_training=(
        "What food does {n} like best?",
        "Could you say what {n} loves to eat?",
        "I am cooking for {n}. What is their favourite dish?",
    ),
    asked_in_evaluation=("Which dish does {n} like best?", "What should I cook to please {n}?"),
)

ATTRIBUTES: tuple[Attribute, ...] = (HOME, TRADE, COMPANION, MUSIC, DISH)

GRADES = 16
HEIGHT = Dimension(
    name="height",
    grades=tuple(f"stands {20 + 3 * grade} fathoms tall" for grade in range(GRADES)),
    more=("taller", "tallest"),
    less=("lower", "lowest"),
)
AGE = Dimension(
    name="age",
    grades=tuple(f"is {50 + 20 * grade} years old" for grade in range(GRADES)),
    more=("older", "oldest"),
    less=("newer", "newest"),
)
DIMENSIONS: tuple[Dimension, ...] = (HEIGHT, AGE)

# Questions about several towers: {w} is a superlative such as "tallest", {l} the list "A, B, C or D".
WHICH_IN_PRETRAINING: tuple[str, ...] = (
    "Which is the {w} tower: {l}?",
    "Of these towers, which one is the {w}: {l}?",
    "Is the {w} tower {l}?",
    "Name the {w} of these: {l}.",
    "Which of the towers is {w}, {l}?",
)
WHICH_IN_TRAINING: tuple[str, ...] = (
    "I am looking for the {w} tower. Is it {l}?",
    "Could you say which of these towers is the {w}: {l}?",
    "Out of {l}, which tower is the {w}?",
)
WHICH_IN_EVALUATION: tuple[str, ...] = (
    "Which tower here is the {w} one: {l}?",
    "From this list, pick the {w} tower: {l}.",
)
WHICH_ANSWER = "The {w} of them is {t}."
WHICH_STATEMENTS: tuple[str, ...] = (
    "The {w} one is {t}.",
    "It is {t} that is the {w}.",
    "The {w} tower is {t}.",
)
OPENERS: tuple[str, ...] = ("", "", "", "Good day! ", "Tell me: ", "Excuse me. ", "A question, please. ")
