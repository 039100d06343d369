"""The stories: a beginning, a plot in which something early matters later, an ending.

This is the only grammar there is; `teller` says what it is used for. A new plot is its words, a
function of (teller, hero, friend), and its name in PLOTS. Two rules keep the entropy exact: every
choice shows in the text (no word in a list begins another of it), and a picked word never changes
how many choices follow. Two more let a small GPT get near the floor in minutes: a story fits in 256
characters with few exceptions, and names differ in their first letter, with which nothing but a
name begins: a capital K is Kim, and what has to be learned is *when* it is her turn.
"""

from data.tales.teller import Teller
from data.tales.words import Person, but, count, numbers, people

GIRLS = people("Eve Kim Liz Mia Zoe", "girl", "she", "her", "her")
BOYS = people("Ben Dan Gus Jon Rob", "boy", "he", "him", "his")
CHILDREN = GIRLS + BOYS
TRAITS = "brave clever funny jolly kind wise".split()
WEATHERS = "bright cold foggy hot rainy windy".split()
TIMES = "morning day evening".split()
PLACES = "beach farm hill lake park wood".split()


def story(t: Teller) -> None:
    """One whole story, without the blank line that ends it."""
    if t.choose((True, False)):
        _, _, trait = t.say("One _ _ a _ ", WEATHERS, TIMES, TRAITS)
        children = t.choose((GIRLS, BOYS))
        (hero,) = t.say(f"{children[0].kind} named _ ", children)
    else:
        hero, trait = t.say("_ was a _ ", CHILDREN, TRAITS)
        t.say(f"{hero.kind}. One _ _ {hero.he} ", WEATHERS, TIMES)
    friend, _ = t.say("met _ at the _. ", but(CHILDREN, hero), PLACES)
    t.choose(PLOTS)(t, hero, friend)
    match t.choose(("praise", "thanks", "fame", "tale")):
        case "praise":
            t.write(f"What a {trait} {hero.kind}!")
        case "thanks":
            t.write(f'{friend} said, "{hero}, you are so {trait}!"')
        case "fame":
            t.write(f"And {friend} told everyone how {trait} {hero} was.")
        case "tale":
            t.write(f"So ends the tale of {trait} {hero}.")


FOODS = "apples buns figs lemons nuts tarts".split()


def sharing(t: Teller, hero: Person, friend: Person) -> None:
    """Numbers add up."""
    n, food = t.say(f"{hero} had _ _ ", numbers(4, 7), FOODS)
    (k,) = t.say(f"and gave _ to {friend}. ", numbers(1, 3))
    t.write(f"Now {hero} had {count(n - k, food)} and {friend} had {k}. ")
    if t.choose((True, False)):
        (m,) = t.say(f"Then {hero} found _ more. ", numbers(1, 2))
        t.write(f"Now {hero} had {count(n - k + m, food)}. ")


NOISES = {
    "rang the bell": "ding",
    "hit the drum": "boom",
    "kicked the door": "bang",
    "jumped in the mud": "splash",
}


def noise(t: Teller, hero: Person, friend: Person) -> None:
    """Counting aloud: as many sounds as were announced."""
    did, n = t.say(f"{hero} _ _ times: ", tuple(NOISES), numbers(2, 5))
    t.write(", ".join([NOISES[did]] * n)+ "! ")
    (n,) = t.say(f"{friend} {did} _ times: ", numbers(2, 5))
    t.write(", ".join([NOISES[did]] * n)+ "! ")


COLOURS = "blue green pink red white yellow".split()
TOYS = "ball cup doll drum hat kite".split()
SPOTS = (
    "behind a wall", "behind a tree", "under a bench",
    "under a stone", "in the grass", "in a basket",
)  # fmt: skip


def hiding(t: Teller, hero: Person, friend: Person) -> None:
    """Where a thing was hidden is where it is found."""
    colour, toy, spot = t.say(f"{hero} hid a _ _ _. ", COLOURS, TOYS, SPOTS)
    wrong = spot
    for _ in range(t.choose((1, 2))):
        (wrong,) = t.say(f"{friend} looked _. No {toy}. ", but(SPOTS, spot, wrong))
    t.write(f"{friend} looked {spot}. There was the {colour} {toy}! ")


# A thing in the bag: the trouble that calls for it, and what is done with it.
TOOLS = {
    "lamp": ("They came to a dark cave.", "lit the lamp"),
    "rope": ("{friend} fell into a hole.", "pulled {friend} out with the rope"),
    "key": ("They came to a locked gate.", "opened it with the key"),
    "whistle": ("{friend} got lost in a fog.", "blew the whistle, and {friend} came back"),
    "net": ("{friend} dropped a hat in a pond.", "caught it with the net"),
    "bone": ("A big dog barked at {friend}.", "gave it the bone"),
}


def tool(t: Teller, hero: Person, friend: Person) -> None:
    """What is in the bag at the beginning is needed at the end."""
    (thing,) = t.say(f"{hero} had a _ in {hero.his} bag. ", tuple(TOOLS))
    if t.choose((True, False)):
        t.write(f'{friend} asked why. {hero} said, "Wait and see." ')
    trouble, rescue = (line.format(friend=friend) for line in TOOLS[thing])
    t.write(f"{trouble} {hero} {rescue}. ")


def swap(t: Teller, hero: Person, friend: Person) -> None:
    """Who owns what."""
    mine, toy = t.say(f"{hero} had a _ _ ", COLOURS, TOYS)
    (yours,) = t.say(f"and {friend} had a _ {toy}. ", but(COLOURS, mine))
    t.write(f"They swapped. Now {hero} had the {yours} {toy} and {friend} had the {mine} {toy}. ")


SOUNDS = {
    "cow": "moo",
    "duck": "quack",
    "hen": "cluck",
    "lion": "roar",
    "pig": "oink",
    "sheep": "baa",
}


def animals(t: Teller, hero: Person, friend: Person) -> None:
    """Each has its own sound, and they speak in the order in which they came."""
    (one,) = t.say("They saw a _ ", tuple(SOUNDS))
    (two,) = t.say("and a _. ", but(tuple(SOUNDS), one))
    t.write(f"The {one} said {SOUNDS[one]} and the {two} said {SOUNDS[two]}. ")
    t.say(f"The _ went home with {hero}. ", (one, two))


HEADS = "ba fo gu ka mi zu".split()
TAILS = "bim dop lar nix rus tam".split()
DOORS = "box chest door gate".split()


def magic(t: Teller, hero: Person, friend: Person) -> None:
    """A word never heard before opens the door."""
    _, head, tail = t.say('An old _ said, "The word is __." ', tuple(SOUNDS), HEADS, TAILS)
    (door,) = t.say(f"{friend} found a _. ", DOORS)
    t.write(f'{hero} said "{head}{tail}" and the {door} opened. ')
    t.say("In it was a _ _. ", COLOURS, TOYS)


def race(t: Teller, hero: Person, friend: Person) -> None:
    """Who won follows from who beat whom."""
    (other,) = t.say("They ran a race with _. ", but(CHILDREN, hero, friend))
    a, b, c = t.choose(((hero, friend, other), (friend, other, hero), (other, hero, friend)))
    t.write(f"{a} was faster than {b}, and {b} was faster than {c}. ")
    t.write(f"So {a} won, and {c} was last. ")


PLOTS = (sharing, noise, hiding, tool, swap, animals, magic, race)
