"""What is fitted on features of a frozen network, over scikit-learn."""
