"""A tiny chapter with three exercises: one with a report, one that builds on it, one in words alone."""

from tiny import chapter, fence

EXERCISES = (
    "\n\n## Exercises\n\n"
    "```{exercise-start}\n:label: tiny-double\n```\nDouble the numbers.\n```{exercise-end}\n```\n\n"
    "```{solution-start} tiny-double\n:class: dropdown\n```\nTwice each.\n\n"
    + fence("""
        import math
        given = [1.0, 2.0, 4.0]
        doubled = [2 * n for n in given]
        say(f"Doubled, their sum is {math.fsum(doubled):.2f}. It had to be.")
        """)
    + "\n```{solution-end}\n```\n\n"
    "```{exercise-start}\n:label: tiny-square\n```\nSquare what you got.\n```{exercise-end}\n```\n\n"
    "```{solution-start} tiny-square\n:class: dropdown\n```\n"
    + fence("squares = {}\nfor n in doubled:\n    squares[n] = n**2\nsquares")
    + "\nMultiply each by itself.\n```{solution-end}\n```\n\n"
    "```{exercise-start}\n:label: tiny-why\n```\nWhy?\n```{exercise-end}\n```\n\n"
    "```{solution-start} tiny-why\n:class: dropdown\n```\nBecause of the quokka.\n```{solution-end}\n```\n"
    "\n## Next\n\nNothing.\n"
)


def class_chapter(slug: str = "tiny") -> str:
    """The source of the chapter."""
    return chapter(slug, "from reprise.suite import say") + EXERCISES
