"""Text-only turns that the demo model is trained on: greetings, counting, sums, what to say without a picture."""

from __future__ import annotations

from random import Random

from runtime.demo.questions import Question
from runtime.demo.vocabulary import COLOURS, NUMBERS, SHAPES, capitalised, listing, with_article

NO_PICTURE = "I do not see a picture. Please show me one."
UNKNOWN = "I am sorry, I only know about shapes, colours, numbers and pictures of them."

_HELLO = "Hello! I am a tiny vision model. Show me a picture of some shapes."
_ABOUT = (
    "I am a tiny model that looks at pictures. I can name shapes and their colours, count them, "
    "say where they are, and read small numbers."
)
_STORY = (
    "Once upon a time there was a small blue circle. It rolled down a hill and met a big red square. "
    "They played all day, and at night a pink star came out to say hello. The end."
)
_POEM = (
    "A circle rolled along the road, a square sat on the floor, "
    "a triangle climbed up a hill, a star shone through the door. "
    "The heart was red, the ring was gold, the cross was black as night, "
    "the diamond said to all of them: goodbye, sleep well, good night."
)
_SHAPES_KNOWN = f"I know {listing([f'the {shape}' for shape in SHAPES])}."
_COLOURS_KNOWN = f"I know {listing(tuple(COLOURS))}."

PHRASES: dict[str, tuple[str, ...]] = {
    _HELLO: ("Say hello.", "Hello.", "Hello!", "Hi.", "Hi!", "Hello there.", "Good morning.", "Hey."),
    _ABOUT: (
        "Who are you?",
        "What are you?",
        "What can you do?",
        "What is your name?",
        "Help.",
        "Tell me about yourself.",
    ),
    "I am fine, thank you. How are you?": ("How are you?", "How do you do?", "How are you today?"),
    "You are welcome.": ("Thank you.", "Thanks.", "Thank you!", "Thanks!"),
    "Goodbye! Come back with more pictures.": ("Goodbye.", "Say goodbye.", "Bye.", "See you.", "Good night."),
    _STORY: ("Tell me a story.", "Tell me a short story.", "Write a story."),
    _POEM: ("Write a poem.", "Write a poem about shapes.", "Tell me a poem."),
    _SHAPES_KNOWN: ("What shapes do you know?", "Which shapes do you know?", "Name some shapes."),
    _COLOURS_KNOWN: (
        "What colours do you know?",
        "What colors do you know?",
        "Which colours do you know?",
        "Name some colours.",
    ),
    NO_PICTURE: (
        "What is this a picture of?",
        "What is this?",
        "What do you see?",
        "What is in this picture?",
        "Describe this picture.",
        "Describe the image in detail.",
        "Tell me about this picture.",
        "How many shapes are there?",
        "Count the shapes.",
        "How many shapes do you see?",
        "What number do you see?",
        "What colour is the background?",
        "What number is written in the picture?",
    ),
}
"""Answer -> the phrases it answers."""

_ODD = (
    "why how when who the a is are do does did can could will would should my your his her our it they cat dog "
    "weather rain sun moon river book table music song train car ship London Paris water bread tea coffee milk "
    "work play run walk sleep eat drink buy sell make build code python computer internet news price money love "
    "hate time day year week old new good bad tall short fast slow tell write explain translate solve find list "
    "capital city country king queen president science history maths quantum atom star planet earth fish bird tree"
)
ODD_WORDS = tuple(_ODD.split())
"""Words for questions that the model must decline."""


def small_talk(rng: Random) -> Question:
    """Return one turn without a picture; kind `odd` is word salad, `chat` all the rest."""
    kind_of_turn = rng.random()
    if kind_of_turn < 0.50:
        answer = rng.choice(tuple(PHRASES))
        return Question("chat", rng.choice(PHRASES[answer]), answer)
    if kind_of_turn < 0.60:
        return _counting(rng)
    if kind_of_turn < 0.70:
        return _sum(rng)
    if kind_of_turn < 0.80:
        word = rng.choice((*SHAPES, *COLOURS, *NUMBERS[1:], "hello", "goodbye", "yes", "no", "please"))
        return Question("chat", f"Say {word}.", f"{capitalised(word)}.")
    if kind_of_turn < 0.90:
        return _question_without_picture(rng)
    words = [rng.choice(ODD_WORDS) for _ in range(rng.randint(3, 9))]
    return Question("odd", capitalised(" ".join(words)) + rng.choice(("?", ".", "!", "")), UNKNOWN)


def _counting(rng: Random) -> Question:
    last = rng.randint(2, 10)
    text = rng.choice((f"Count to {NUMBERS[last]}.", f"Count to {last}.", f"Please count to {NUMBERS[last]}."))
    return Question("chat", text, f"{capitalised(', '.join(NUMBERS[1 : last + 1]))}.")


def _sum(rng: Random) -> Question:
    a, b = rng.randint(1, 5), rng.randint(1, 5)
    text = rng.choice((f"What is {NUMBERS[a]} plus {NUMBERS[b]}?", f"What is {a} plus {b}?"))
    return Question("chat", text, f"{capitalised(NUMBERS[a])} plus {NUMBERS[b]} is {NUMBERS[a + b]}.")


def _question_without_picture(rng: Random) -> Question:
    shape = rng.choice(SHAPES)
    text = rng.choice(
        (
            f"What colour is the {shape}?",
            f"Where is the {shape}?",
            f"Is there {with_article(shape)}?",
            f"Is there {with_article(rng.choice(tuple(COLOURS)))} {shape}?",
            f"Is the {shape} large or small?",
            f"Is the {shape} left of the {rng.choice(SHAPES)}?",
        )
    )
    return Question("chat", text, NO_PICTURE)
