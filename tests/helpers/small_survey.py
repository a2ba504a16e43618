"""A survey of one question, as a user describes one; its people are in people.csv beside it."""

SURVEY = """
name: small
answers: people.csv
respondent: id
profile: [country]
questions: {tea: {text: Tea or coffee, options: {1: tea, 2: coffee}}}
"""
