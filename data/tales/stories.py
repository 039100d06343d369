"""The stories: a beginning, a plot in which something early matters later, an ending.

This is the only grammar there is; `teller` says what it is used for. A new plot is its words, a
function of (teller, hero, friend), and its name in PLOTS. Two rules keep the entropy exact: every
choice shows in the text, and a picked word never changes how many choices follow it. So no word in
a list begins another one, and names differ in their first letter.
"""

from data.tales.teller import Teller
from data.tales.words import Person, but, count, numbers, people

GIRLS = people("Anna Clara Ella Ivy Lily Mia Nora Zoe", "girl", "she", "her", "her")
BOYS = people("Ben Dan Finn Hugo Jack Otto Sam Tom", "boy", "he", "him", "his")
CHILDREN = GIRLS + BOYS
TRAITS = "brave clever funny gentle jolly kind polite wise".split()
WEATHERS = "bright cold foggy hot rainy snowy warm windy".split()
TIMES = "morning day afternoon evening".split()
WENT = "danced hopped hurried ran raced skipped walked wandered".split()
PLACES = "beach farm hill lake market park river wood".split()


def story(t: Teller) -> None:
    """One whole story, without the blank line that ends it."""
    if t.choose((True, False)):
        children = t.choose((GIRLS, BOYS))
        trait, hero = t.say(f"Once there was a _ {children[0].kind} named _. ", TRAITS, children)
    else:
        hero, trait = t.say("_ was a _ ", CHILDREN, TRAITS)
        t.write(f"{hero.kind}. ")
    weather, time = t.say("One _ _ ", WEATHERS, TIMES)
    _, place, friend = t.say(f"{hero.he} _ to the _ with _. ", WENT, PLACES, but(CHILDREN, hero))
    t.choose(PLOTS)(t, hero, friend)
    match t.choose(("praise", "thanks", "memory", "way home")):
        case "praise":
            t.write(f"What a {trait} {hero.kind}!")
        case "thanks":
            t.write(f'{friend} said, "{hero}, you are so {trait}!"')
        case "memory":
            t.write(f"{friend} never forgot that {weather} {time} at the {place}.")
        case "way home":
            t.say(f"Then they _ home from the {place}.", WENT)


FOODS = "apples buns cookies figs lemons nuts pears tarts".split()
SPOTS = (
    "behind the wall", "behind a tree", "under the bench", "under a stone",
    "in the grass", "in the basket", "on the roof", "on the cart",
)  # fmt: skip


def sharing(t: Teller, hero: Person, friend: Person) -> None:
    """Numbers add up."""
    n, food = t.say(f"{hero.He} had _ _. ", numbers(5, 9), FOODS)
    (k,) = t.say(f"{hero.He} gave _ to {friend}. ", numbers(1, 4))
    t.write(f"Now {hero} had {count(n - k, food)} and {friend} had {k}. ")
    if t.choose((True, False)):
        m, _ = t.say(f"Then {hero.he} found _ more _. ", numbers(1, 3), SPOTS)
        t.write(f"Now {hero.he} had {count(n - k + m, food)}. ")


NOISES = {
    "rang the bell": "ding",
    "hit the drum": "boom",
    "knocked on the door": "tock",
    "jumped in the mud": "splash",
}


def noise(t: Teller, hero: Person, friend: Person) -> None:
    """Counting aloud: as many sounds as were announced."""
    did, n = t.say(f"{hero} _ _ times. ", tuple(NOISES), numbers(2, 5))
    t.write(", ".join([NOISES[did]] * n).capitalize() + "! ")
    (n,) = t.say(f"{friend} did it _ times. ", numbers(2, 5))
    t.write(", ".join([NOISES[did]] * n).capitalize() + "! ")


COLOURS = "blue green pink red silver white yellow golden".split()
TOYS = "ball cup doll drum hat kite boat top".split()


def lost(t: Teller, hero: Person, friend: Person) -> None:
    """Where a thing was left is where it is found."""
    colour, toy, spot = t.say(f"{hero.He} left {hero.his} _ _ _ ", COLOURS, TOYS, SPOTS)
    t.write(f"and played with {friend}. Later {hero.he} could not find the {toy}. ")
    wrong = spot
    for _ in range(t.choose((1, 2))):
        (wrong,) = t.say("Was it _? No. ", but(SPOTS, spot, wrong))
    t.write(f"Then {friend} looked {spot}, and there was the {colour} {toy}! ")


# A thing in the bag: the trouble that calls for it, and what is done with it.
TOOLS = {
    "lamp": ("They came to a dark cave.", "lit the lamp, and the cave was bright as day"),
    "rope": ("{friend} fell into a deep hole.", "let down the rope and pulled {friend.him} out"),
    "key": ("They came to a locked gate.", "turned the key, and the gate swung open"),
    "map": ("They got lost in the trees.", "looked at the map and found the way"),
    "whistle": ("A fog came and hid {friend}.", "blew the whistle, and {friend} came back"),
    "net": ("{friend} dropped {friend.his} hat in a pond.", "caught the hat with the net"),
    "ribbon": ("{friend} fell and hurt {friend.his} knee.", "tied the ribbon around it"),
    "bone": ("A big dog growled at {friend}.", "gave the dog the bone, and it wagged its tail"),
}


def tool(t: Teller, hero: Person, friend: Person) -> None:
    """What is in the bag at the beginning is needed at the end."""
    (thing,) = t.say(f"In {hero.his} bag {hero.he} had a _. ", tuple(TOOLS))
    if t.choose((True, False)):
        t.write(f'{friend} asked, "What is the {thing} for?" {hero} said, "Wait and see." ')
    trouble, rescue = (line.format(friend=friend) for line in TOOLS[thing])
    t.write(f"{trouble} {hero} {rescue}. ")


def swap(t: Teller, hero: Person, friend: Person) -> None:
    """Who owns what."""
    colour, toy = t.say(f"{hero} had a _ _ ", COLOURS, TOYS)
    other, gift = t.say(f"and {friend} had a _ _. ", but(COLOURS, colour), but(TOYS, toy))
    t.write(f"They swapped. Now {hero} had the {other} {gift} ")
    t.write(f"and {friend} had the {colour} {toy}. ")
    if t.choose((True, False)):
        t.write(f"But {hero} missed {hero.his} {toy}, so {friend} gave it back. ")


SOUNDS = {
    "cow": "Moo",
    "crow": "Caw",
    "dog": "Woof",
    "duck": "Quack",
    "frog": "Croak",
    "hen": "Cluck",
    "pig": "Oink",
    "sheep": "Baa",
}


def animals(t: Teller, hero: Person, friend: Person) -> None:
    """Each has its own sound, and they speak in the order in which they came."""
    seen: list[str] = []
    for text in "They saw a _, ", "a _ ", "and a _. ":
        seen += t.say(text, but(tuple(SOUNDS), *seen))
    for animal in seen:
        t.write(f'"{SOUNDS[animal]}!" said the {animal}. ')
    t.say(f"The _ went home with {hero}. ", seen)


WIZARDS = "cat frog gnome king man owl queen woman".split()
HEADS = "ba di fo gu ka lo mi zu".split()
TAILS = "bim dop lar mun nix rus sel tam".split()
DOORS = "box chest cupboard door gate hut tower vault".split()
TREASURES = (
    "a baby dragon", "a big cake", "a crown", "a heap of gold",
    "a magic lute", "a sleepy giant", "a tiny pony", "a warm coat",
)  # fmt: skip


def magic(t: Teller, hero: Person, friend: Person) -> None:
    """A word never heard before opens the door."""
    t.say("They met an old _ ", WIZARDS)
    head, tail = t.say('who said, "The magic word is __." ', HEADS, TAILS)
    (door,) = t.say("Soon they found a _ that was shut. ", DOORS)
    t.write(f'{hero} said, "{head.capitalize()}{tail}!" ')
    t.say(f"The {door} opened, and inside was _. ", TREASURES)


def race(t: Teller, hero: Person, friend: Person) -> None:
    """Who won follows from who beat whom."""
    (other,) = t.say("There they met _, and all three ran a race. ", but(CHILDREN, hero, friend))
    a, b, c = t.choose(((hero, friend, other), (friend, other, hero), (other, hero, friend)))
    t.write(f"{a} was faster than {b}, and {b} was faster than {c}. ")
    t.write(f"So {a} won, and {c} was last. ")


PLOTS = (sharing, noise, lost, tool, swap, animals, magic, race)
