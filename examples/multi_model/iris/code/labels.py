LABELS = ("setosa", "versicolor", "virginica")
