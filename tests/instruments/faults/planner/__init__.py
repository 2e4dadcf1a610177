"""The planner alone: a model of Drive in memory, histories that hypothesis makes up, and what must come of them."""
