"""The one exception that the suite shows to people: a sentence that says what is wrong and what to do."""


class RepriseError(Exception):
    """Something a person can mend; the message is one sentence with the remedy."""
