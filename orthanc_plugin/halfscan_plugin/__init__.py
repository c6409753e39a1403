"""Archive side of Halfscan: the Orthanc plugin, the reconstruction worker and the command line."""
