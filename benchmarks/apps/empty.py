"""An empty Streamlit app: what the framework itself takes, to compare our first paint with."""

import streamlit as st

st.title("Empty")
