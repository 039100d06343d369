"""The corpora known by name. A new one needs its own file here and a place in the list."""

from data.recipes import dorothy, openwebtext, oz, shakespeare, tales, tinystories

RECIPES = {recipe.name: recipe for recipe in (
    tales.RECIPE,
    oz.RECIPE,
    dorothy.RECIPE,
    shakespeare.RECIPE,
    tinystories.RECIPE,
    openwebtext.RECIPE,
)}
