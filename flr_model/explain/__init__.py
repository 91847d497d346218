"""Why a user is recommended an item: factors, history items and shares, in words for a person; light."""
