"""From files of interactions to rows of histories."""
