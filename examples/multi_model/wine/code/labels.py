LABELS = ("Barolo", "Grignolino", "Barbera")
