"""`python -m libsedge_training` is `libsedge`: what torchrun starts (`torchrun -m libsedge_training train ...`)."""

from libsedge.cli import main

if __name__ == "__main__":
    main(prog_name="libsedge")
