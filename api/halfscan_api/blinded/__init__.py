"""Blinded images: a DICOMweb service for each reading, which tells nothing but the images."""
