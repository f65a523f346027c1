int uncommented = 1;
