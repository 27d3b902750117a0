"""This daemon among the others on its prefix: who is there, whose partition a command is for.

``site`` puts the parts together over NATS; what decides is in ``actors.cluster``.
"""
