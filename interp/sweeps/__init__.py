"""From experiments to runs on disk: one, its seeds, a grid."""
