"""Two inputs, one number to predict, and the smallest RMSE is the best."""
