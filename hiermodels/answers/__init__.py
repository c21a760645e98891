"""Answers that a fitted model gives: arrays, tables and sentences, never pictures."""
